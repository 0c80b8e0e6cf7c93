"""The loop that writes a cache: what is kept, in which order, and what a stop costs."""

import functools
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from helpers import make_manifest, random_record

from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.data.teacher_cache import (
    CacheError,
    CacheRecord,
    CacheWriter,
    open_cache,
    verify,
)
from sentidistill_jax.teacher.answers import CapturedAnswer
from sentidistill_jax.teacher.capture import capture

PROMPTS = [Prompt("knowdist", "analyse/target", f"id{n}", f"{n}?", f"{n}?") for n in range(10)]
MANIFEST = make_manifest(len(PROMPTS))  # shards for 3, 3, 3 and 1 prompts
REJECTED = {1: "loop", 3: "empty", 4: "loop", 5: "copy", 8: "loop"}  # all of the second shard
COUNTS = {
    "analyse/target": {"loop": 3, "empty": 1, "copy": 1},
    **{f"of {number}": {"kept": 1} for number in range(10) if number not in REJECTED},
}


class Stopped(Exception):
    """A process that is killed there."""


class Teacher:
    """Answers each prompt in its own way, latest first; an action may come before each answer."""

    num_processes = 1
    spans_processes = False

    def __init__(self, before=lambda number: None, outcome=None):
        self.asked: list[int] = []
        self._before = before
        self._outcome = outcome or outcome_of

    def answers(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, CapturedAnswer]]:
        for index in reversed(range(len(prompts))):
            number = PROMPTS.index(prompts[index])
            self._before(number)
            self.asked.append(number)
            yield index, CapturedAnswer(4, functools.partial(self._outcome, number))


def outcome_of(number: int) -> CacheRecord | str:
    if number in REJECTED:
        return REJECTED[number]
    rng = np.random.default_rng(number)
    return random_record(rng, MANIFEST, prompt=3, completion=4, kind=f"of {number}")


def files_of(directory: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def whole(tmp_path):
    """The files of a capture that nothing disturbs."""
    assert capture(Teacher(), PROMPTS, tmp_path / "whole", MANIFEST) == COUNTS
    return files_of(tmp_path / "whole")


def test_records_are_those_of_the_kept_prompts_in_their_order(whole, tmp_path):
    reader = open_cache(tmp_path / "whole")
    assert [record.kind for record in reader] == [f"of {n}" for n in (0, 2, 6, 7, 9)]
    assert [entry.num_records for entry in reader.manifest.shards] == [2, 0, 2, 1]
    rejected = [entry.rejected for entry in reader.manifest.shards]
    assert [dict(of_shard.get("analyse/target", {})) for of_shard in rejected] == [
        {"loop": 1}, {"empty": 1, "loop": 1, "copy": 1}, {"loop": 1}, {},
    ]  # fmt: skip
    assert not verify(tmp_path / "whole").problems


@pytest.mark.parametrize("number", range(10))
def test_stopped_before_any_answer_it_redoes_one_shard_and_leaves_the_same_files(
    whole, tmp_path, number
):
    def stop(at):
        if at == number:
            raise Stopped

    directory = tmp_path / "resumed"
    first = Teacher(stop)
    with pytest.raises(Stopped):
        capture(first, PROMPTS, directory, MANIFEST)
    assert "manifest.json" not in files_of(directory)
    second = Teacher()
    assert capture(second, PROMPTS, directory, MANIFEST) == COUNTS
    assert files_of(directory) == whole
    redone = set(first.asked) & set(second.asked)
    assert set(first.asked) | set(second.asked) == set(range(10))
    assert {one // 3 for one in redone} <= {number // 3}


def test_stopped_while_a_shard_is_written_it_leaves_the_same_files(whole, tmp_path, monkeypatch):
    """Its file may be there already; without its log it does not count."""
    directory, put = tmp_path / "resumed", CacheWriter.put

    def stop_at_the_log(self, path, content):
        if path.name == "shard-00002-of-00004.json":
            raise Stopped
        put(self, path, content)

    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "put", stop_at_the_log)
        with pytest.raises(Stopped):
            capture(Teacher(), PROMPTS, directory, MANIFEST)
    teacher = Teacher()
    assert capture(teacher, PROMPTS, directory, MANIFEST) == COUNTS
    assert sorted(teacher.asked) == [6, 7, 8, 9]
    assert files_of(directory) == whole


def test_a_finished_capture_asks_nothing_and_counts_the_same(whole, tmp_path):
    teacher = Teacher()
    assert capture(teacher, PROMPTS, tmp_path / "whole", MANIFEST) == COUNTS
    assert not teacher.asked and files_of(tmp_path / "whole") == whole


def test_a_shard_is_on_the_disk_before_the_next_is_begun(tmp_path):
    """Or a kill would cost two shards."""
    directory, missing = tmp_path / "cache", []

    def look(number):
        missing.append(CacheWriter(directory, MANIFEST).missing_shards())

    capture(Teacher(look), PROMPTS, directory, MANIFEST)
    assert missing == [[0, 1, 2, 3]] * 3 + [[1, 2, 3]] * 3 + [[2, 3]] * 3 + [[3]]


def test_what_the_encoding_thread_refuses_stops_the_capture(tmp_path):
    def refuse(number):
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        capture(Teacher(outcome=refuse), PROMPTS, tmp_path, MANIFEST)
    assert not list(tmp_path.glob("shard-*"))


def test_a_teacher_that_says_nothing_worth_learning_is_an_error_each_time(tmp_path):
    for _ in range(2):
        teacher = Teacher(outcome=lambda number: "empty")
        with pytest.raises(ValueError, match=r"none of the teacher's 10 .* \({'empty': 10}\)"):
            capture(teacher, PROMPTS, tmp_path, MANIFEST)
        with pytest.raises(CacheError, match="manifest.json is missing"):
            open_cache(tmp_path)
    assert not teacher.asked
