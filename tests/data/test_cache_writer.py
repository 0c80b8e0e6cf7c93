"""Writing: any process, any order, any crash, the same bytes."""

import dataclasses
import pathlib
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
import write_cache as victim
from cache_records import files_of, make_manifest, make_record, make_records, write_cache
from helpers import full_disk

from sentidistill_jax.data.teacher_cache import (
    CacheError,
    CacheMismatchError,
    CacheWriter,
    SparseTargets,
    open_cache,
    verify,
)
from sentidistill_jax.data.teacher_cache.manifest import log_path, seal, unseal

MANIFEST = make_manifest()  # ten records: shards of 4, 4 and 2


def start_victim(directory: pathlib.Path, process: int, num_processes: int) -> Any:
    """A process that writes its share of the shards and prints each as it begins it."""
    command = [sys.executable, victim.__file__, str(directory), str(process), str(num_processes)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_shards_cover_fixed_ranges():
    writer_ranges = [MANIFEST.shard_range(shard) for shard in range(MANIFEST.num_shards)]
    assert writer_ranges == [(0, 4), (4, 8), (8, 10)]
    assert MANIFEST.shard_name(2) == "shard-00002-of-00003"


def test_bytes_depend_on_neither_writers_nor_order(tmp_path):
    write_cache(tmp_path / "one", MANIFEST)
    records = make_records(MANIFEST)
    writers = [CacheWriter(tmp_path / "many", MANIFEST) for _ in range(2)]
    for shard, writer in [(2, 0), (0, 1), (1, 0), (0, 0)]:  # shard 0 twice
        chosen = writers[writer]
        chosen.write_shard(shard, records[slice(*chosen.shard_range(shard))])
    writers[1].finish()
    assert files_of(tmp_path / "many") == files_of(tmp_path / "one")


def test_a_full_disk_is_the_systems_error_and_leaves_no_shard(tmp_path):
    writer = CacheWriter(tmp_path / "full", MANIFEST)
    with full_disk(1000), pytest.raises(OSError, match="shard-00000"):
        writer.write_shard(0, make_records(MANIFEST)[:4])
    assert writer.missing_shards() == [0, 1, 2]
    write_cache(tmp_path / "full", MANIFEST)
    write_cache(tmp_path / "whole", MANIFEST)
    assert files_of(tmp_path / "full") == files_of(tmp_path / "whole")


def test_finish_twice_changes_nothing(tmp_path):
    write_cache(tmp_path, MANIFEST)
    before = files_of(tmp_path)
    CacheWriter(tmp_path, MANIFEST).finish()
    assert files_of(tmp_path) == before


def test_finish_names_the_missing_shards(tmp_path):
    writer = CacheWriter(tmp_path, MANIFEST)
    writer.write_shard(1, make_records(MANIFEST)[4:8])
    with pytest.raises(CacheError, match=r"misses shards \[0, 2\] of 3"):
        writer.finish()


@pytest.mark.parametrize("damage", ["flip", "cut", "delete", "log flip", "log delete", "swap"])
def test_a_damaged_shard_counts_as_missing_and_can_be_redone(tmp_path, damage):
    records = write_cache(tmp_path, MANIFEST)
    before = files_of(tmp_path)
    shard = tmp_path / MANIFEST.shard_name(1)
    target = shard.with_name(shard.name + ".json") if damage.startswith("log") else shard
    data = bytearray(target.read_bytes())
    if damage.endswith("flip"):
        data[len(data) // 3] ^= 1
        target.write_bytes(data)
    elif damage == "cut":
        target.write_bytes(data[:-1])
    elif damage.endswith("delete"):
        target.unlink()
    else:
        for suffix in ("", ".json"):
            other = tmp_path / (MANIFEST.shard_name(0) + suffix)
            (tmp_path / (shard.name + suffix)).write_bytes(other.read_bytes())
    writer = CacheWriter(tmp_path, MANIFEST)
    assert writer.missing_shards() == [1]
    writer.write_shard(1, records[4:8])
    writer.finish()
    assert files_of(tmp_path) == before


def test_another_manifest_is_refused_field_by_field(tmp_path):
    write_cache(tmp_path, MANIFEST)
    other = make_manifest(
        teacher_fingerprint="other", top_k=9, config={"sampling": {"temperature": 1.0}}
    )
    with pytest.raises(CacheMismatchError) as error:
        CacheWriter(tmp_path, other)
    assert set(error.value.problems[1:]) == {
        "teacher_fingerprint: got 'teacher', expected 'other'",
        "top_k: got 8, expected 9",
        "config.sampling.temperature: got 0.7, expected 1.0",
    }
    with pytest.raises(CacheMismatchError, match="num_prompts: got 10, expected 40"):
        CacheWriter(tmp_path, make_manifest(num_prompts=40))  # its shards have other names


@pytest.mark.parametrize("step", ["sync", "rename"])
@pytest.mark.parametrize("call", range(7))
def test_stopped_at_any_step_it_ends_with_the_same_bytes(tmp_path, monkeypatch, step, call):
    manifest = make_manifest(num_prompts=4, records_per_shard=2)
    write_cache(tmp_path / "whole", manifest)
    calls = iter(range(100))

    def stop_at(original):
        def replacement(*args):
            if next(calls) == call:
                raise KeyboardInterrupt
            return original(*args)

        return replacement

    with monkeypatch.context() as patch:
        if step == "sync":
            module = "sentidistill_jax.data.teacher_cache.writer"
            patch.setattr(f"{module}.sync", stop_at(sys.modules[module].sync))
        else:
            patch.setattr(pathlib.Path, "rename", stop_at(pathlib.Path.rename))
        try:
            write_cache(tmp_path / "cut", manifest)
            stopped = False
        except KeyboardInterrupt:
            stopped = True
    assert stopped == (step == "sync" or call < 5)  # two shards, their logs, the manifest
    assert len(CacheWriter(tmp_path / "cut", manifest).missing_shards()) >= (call < 4)
    write_cache(tmp_path / "cut", manifest)
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


def test_killed_processes_redo_at_most_a_shard_each(tmp_path):
    write_cache(tmp_path / "whole", victim.MANIFEST)
    directory = tmp_path / "killed"
    rng = np.random.default_rng(0)

    def missing() -> set[int]:
        return set(CacheWriter(directory, victim.MANIFEST).missing_shards())

    before, kills = missing(), 0
    for _ in range(3):
        processes = [start_victim(directory, process, 2) for process in range(2)]
        for process in processes:
            for _ in range(2):  # each has finished a shard and begun another
                process.stdout.readline()
        time.sleep(rng.uniform(0, 0.02))
        for process in processes:
            process.kill()
        begun = [{int(line) for line in process.communicate()[0].split()} for process in processes]
        kills += sum(process.returncode == -signal.SIGKILL for process in processes)
        after = missing()
        assert after < before
        assert all(len(shards & after) <= 1 for shards in begun)
        before = after
    assert kills >= 3  # the others were done before the signal came
    for process in [start_victim(directory, process, 2) for process in range(2)]:
        process.communicate()
    CacheWriter(directory, victim.MANIFEST).finish()
    assert files_of(directory) == files_of(tmp_path / "whole")


def broken(**changes):
    """Record 0 with changed fields, or with targets whose fields are changed."""
    record = make_record(0, MANIFEST)
    of_targets = {name: value for name, value in changes.items() if hasattr(record.targets, name)}
    targets = dataclasses.replace(record.targets, **of_targets)
    of_record = {name: value for name, value in changes.items() if name not in of_targets}
    return dataclasses.replace(record, targets=targets, **of_record)


TARGETS: SparseTargets = make_record(0, MANIFEST).targets
LABELS = make_record(0, MANIFEST).labels
assert LABELS is not None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"key": b"short"}, "a key of 16 bytes"),
        ({"completion_start": len(make_record(0, MANIFEST).tokens)}, "a completion"),
        ({"completion_start": 0}, "one row of targets for each completion token"),
        ({"tail_logprobs": TARGETS.tail_logprobs[:, :1]}, "tail_logprobs of shape"),
        ({"ids": TARGETS.ids[:-1]}, "as many ids and logprobs as counted"),
        ({"ids": np.zeros_like(TARGETS.ids)}, "distinct ids at each position"),
        ({"ids": TARGETS.ids + 1000}, "ids from 0 to 999"),
        ({"logprobs": np.full_like(TARGETS.logprobs, -np.inf)}, "finite logprobs"),
        ({"logprobs": TARGETS.logprobs - 1}, "entries and tail of mass 1 at temperature 1"),
        ({"tail_logprobs": TARGETS.tail_logprobs * np.nan}, "tail_logprobs below 0"),
        ({"labels": dataclasses.replace(LABELS, position=99)}, "an answer position"),
        ({"labels": dataclasses.replace(LABELS, logprobs=LABELS.logprobs[:1])}, "labels of one"),
    ],
)
def test_a_record_that_cannot_come_back_is_refused(tmp_path, changes, expected):
    records = [make_record(1, MANIFEST), *(make_record(i, MANIFEST) for i in (2, 3))]
    with pytest.raises(ValueError, match=r"record 0 \(prompt prompt-0\) must have") as error:
        CacheWriter(tmp_path, MANIFEST).write_shard(0, [broken(**changes), *records])
    assert expected in str(error.value)
    assert not list(tmp_path.glob("shard-*"))


def test_shares_that_are_no_whole_counts_are_refused(tmp_path):
    manifest = make_manifest(mode="sampled", num_draws=7, temperatures=(1.0,))
    with pytest.raises(ValueError, match="whole counts of 7 draws"):
        CacheWriter(tmp_path, manifest).write_shard(0, make_records(manifest)[:4])


def test_a_shard_of_another_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"shard 2 got 3 records, expected 2 \(indices 8 to 9\)"):
        CacheWriter(tmp_path, MANIFEST).write_shard(2, make_records(MANIFEST)[:3])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mode", "top"),
        ("codec", "zip"),
        ("vocab_size", 2**18 + 1),
        ("top_k", 0),
        ("temperatures", (2.0, 1.0)),
        ("temperatures", (1.0, 0.0)),
        ("top_p", 0.9),
        ("num_draws", 3),
        ("num_prompts", 0),
        ("records_per_shard", 0),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(field, value):
    with pytest.raises(ValueError, match=f"cache manifest {field}="):
        make_manifest(**{field: value})


class TestRejected:
    """Prompts whose answers are not kept leave no record, and are counted."""

    KEPT = (1, 2, 9)  # the second shard is empty
    REJECTED = (("keep", "loop"), ("reason", "copy"))

    def write(self, directory):
        records = make_records(MANIFEST)
        writer = CacheWriter(directory, MANIFEST)
        for shard in writer.missing_shards():
            builder = writer.begin_shard(shard)
            for index in range(*writer.shard_range(shard)):
                if index in self.KEPT:
                    builder.add(index - writer.shard_range(shard)[0], records[index])
                else:
                    builder.reject(*self.REJECTED[index >= 8])
            builder.finish()
        return writer

    def test_what_is_kept_is_read_in_the_order_of_the_prompts(self, tmp_path):
        manifest = self.write(tmp_path).finish()
        assert [entry.num_records for entry in manifest.shards] == [2, 0, 1]
        reader = open_cache(tmp_path)
        assert len(reader) == len(self.KEPT)
        expected = [make_record(index, MANIFEST) for index in self.KEPT]
        assert [record.prompt_id for record in reader] == [one.prompt_id for one in expected]
        assert [reader.shard_records(shard) for shard in range(3)] == [
            range(0, 2), range(2, 2), range(2, 3),
        ]  # fmt: skip
        report = verify(tmp_path)
        assert (report.num_records, report.problems) == (3, ())

    def test_counts_come_from_the_shards_and_outlive_a_resume(self, tmp_path):
        writer = self.write(tmp_path)
        kept = Counter(make_record(index, MANIFEST).kind for index in self.KEPT)
        of_kept = {kind: {"kept": number} for kind, number in kept.items()}
        assert writer.counts() == of_kept | {"keep": {"loop": 6}, "reason": {"copy": 1}}
        (tmp_path / MANIFEST.shard_name(0)).unlink()
        with pytest.raises(FileNotFoundError):
            writer.counts()
        assert self.write(tmp_path).counts() == writer.counts()
        entries = writer.finish().shards
        assert [entry.rejected for entry in entries] == [
            {"keep": {"loop": 2}}, {"keep": {"loop": 4}}, {"reason": {"copy": 1}},
        ]  # fmt: skip

    def test_each_prompt_is_kept_or_rejected(self, tmp_path):
        builder = CacheWriter(tmp_path, MANIFEST).begin_shard(0)
        builder.add(0, make_record(0, MANIFEST))
        builder.reject("keep", "loop")
        with pytest.raises(ValueError, match="got 1 records and 1 rejected prompts, expected 4"):
            builder.finish()

    def test_a_cache_of_no_record_is_not_finished(self, tmp_path):
        manifest = make_manifest(num_prompts=1)
        writer = CacheWriter(tmp_path, manifest)
        builder = writer.begin_shard(0)
        builder.reject("keep", "empty")
        builder.finish()
        with pytest.raises(CacheError, match="holds no record"):
            writer.finish()


def test_shards_of_an_earlier_schema_are_refused(tmp_path):
    write_cache(tmp_path, MANIFEST)
    log = log_path(tmp_path / MANIFEST.shard_name(0))
    values = unseal(log.read_bytes(), log)
    del values["rejected"]
    log.write_bytes(seal(values | {"plan": values["plan"] | {"schema_version": 2}}))
    with pytest.raises(CacheMismatchError, match="schema_version: got 2, expected 4"):
        CacheWriter(tmp_path, MANIFEST)
