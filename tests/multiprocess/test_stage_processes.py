"""The stages in two real processes: the same bytes as in one, and process 0 alone writes them."""

import dataclasses
import json
import math
import pathlib
import re
import socket
import subprocess
import sys

import jax
import pytest
import stages_process
from helpers import TINY, byte_tokenizer, random_decoder

from sentidistill_jax.corpus import icldist
from sentidistill_jax.corpus.records import Prompt, write_records
from sentidistill_jax.corpus.task import Demonstration
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.data.teacher_cache import open_cache, verify
from sentidistill_jax.export import export
from sentidistill_jax.models.load import LoadedModel
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.teacher.annotate import Annotation
from sentidistill_jax.workdir import Workdir

pytestmark = pytest.mark.slow
RECORDS_PER_SHARD = 3
TEACHERS = ("each", "one")  # each process has one, or one lies over the devices of both


def write_model(directory: pathlib.Path) -> None:
    """A tiny one with room for SentiBench's prompts, and beside it texts to distil from."""
    config = dataclasses.replace(TINY, max_position=4096)
    decoder = random_decoder(make_mesh({}, jax.devices()[:1]), config)
    tokenizer = byte_tokenizer(["positive", "negative", "neutral"])
    export(LoadedModel(decoder, tokenizer, "random", "random"), directory)
    lines = [f"This is text number {n}, and it is fine." for n in range(12)]
    (directory / "texts.txt").write_text("\n".join(lines))


def write_asked(workdir: Workdir) -> None:
    """Texts, annotations and prompts: labels in words, and free text of which little is kept."""
    texts = [UnlabelledText(f"id{i}", "mine", f"Text number {i}.") for i in range(8)]
    shots = (Demonstration("Bad.", "negative"), Demonstration("Lovely.", "positive"))
    prompts = [
        *(icldist.build_prompt("sentiment", text, shots) for text in texts),
        *(icldist.build_prompt("sentiment", text, ()) for text in texts[:3]),
        Prompt("knowdist", "analyse/target", "id0", "What?", "What?"),
    ]
    logprobs = (math.log(0.9), math.log(0.1))
    annotations = [Annotation("sentiment", text.id, "positive", logprobs) for text in texts]
    write_records(workdir.texts / "train.jsonl", texts, UnlabelledText)
    write_records(workdir.prompts("knowdist") / "prompts.jsonl", prompts, Prompt)
    write_records(workdir.annotations / "annotations.jsonl", annotations, Annotation)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def start(folder, model, sentibench, *, processes: int) -> list[subprocess.Popen]:
    for teacher in TEACHERS:
        write_asked(Workdir(folder / teacher))
    settings = {
        "folder": str(folder), "model": str(model), "sentibench": str(sentibench),
        "port": free_port(), "processes": processes, "records_per_shard": RECORDS_PER_SHARD,
    }  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, stages_process.__file__, json.dumps(settings | {"process": process})],
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(processes)
    ]


def wait_for(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error[-2000:]


def files_of(directory: pathlib.Path) -> dict[str, bytes]:
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def folders(tmp_path_factory, sentibench_dir):
    """What one process has made with four devices, and what two with two each."""
    root = tmp_path_factory.mktemp("stages")
    write_model(root / "model")
    found = {processes: root / f"by-{processes}" for processes in (1, 2)}
    started = [
        start(folder, root / "model", sentibench_dir, processes=processes)
        for processes, folder in found.items()
    ]
    for processes in started:
        wait_for(processes)
    return found


@pytest.mark.sentibench
def test_two_processes_write_the_bytes_of_one(folders):
    one, two = (files_of(folder) for folder in folders.values())
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []
    evaluated = ("teacher-raw", "teacher-calibrated", "student")
    assert one.keys() >= {
        "run/texts/train.jsonl", "run/annotations/annotations.jsonl",
        "run/corpus/knowdist/prompts.jsonl",
        *(f"run/evaluation/{name}/scores.json" for name in evaluated),
    }  # fmt: skip
    lines = one["run/evaluation/student/predictions.jsonl"].decode().splitlines()
    sets = [json.loads(line)["set"] for line in lines]
    assert sets == ["sentibench/sc/twitter"] * 3 + ["sentibench/absa/acsa_rest16"] * 3


@pytest.mark.sentibench
@pytest.mark.parametrize("teacher", TEACHERS)
def test_two_processes_keep_what_is_worth_learning(folders, teacher):
    cache = folders[2] / teacher / "cache" / "knowdist"
    manifest = open_cache(cache / "records").manifest
    assert [entry.num_records for entry in manifest.shards] == [3, 3, 3, 2]
    assert [
        sum(sum(reasons.values()) for reasons in entry.rejected.values())
        for entry in manifest.shards
    ] == [0, 0, 0, 1]
    assert verify(cache / "records").problems == ()
    assert not (cache / "draft").exists()


@pytest.mark.sentibench
def test_process_0_alone_writes_each_file_once(folders):
    leader, other = (
        folders[2].with_name(f"by-2-written-by-{process}").read_text().splitlines()
        for process in (0, 1)
    )
    assert other == []
    names = [re.sub(r"/\.?([^/]+\.jsonl?)\.[^/]*$", r"/\1", path) for path in leader]
    once = [name for name in names if not name.endswith("made_from.json")]
    assert len(once) == len(set(once)) > 10
