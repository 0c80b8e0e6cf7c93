"""Reading: every record as it was written, and nothing that does not fit."""

import dataclasses
import pickle
import subprocess
import sys

import grain
import numpy as np
import pytest
from cache_records import assert_same_record, make_manifest, make_records, write_cache

from sentidistill_jax.data.teacher_cache import (
    CacheError,
    CacheMismatchError,
    CacheWriter,
    open_cache,
)
from sentidistill_jax.data.teacher_cache import (
    codec as codec_module,
)
from sentidistill_jax.data.teacher_cache.manifest import seal, unseal

MANIFEST = make_manifest(num_prompts=23, records_per_shard=5)


@pytest.fixture
def directory(tmp_path):
    write_cache(tmp_path, MANIFEST)
    return tmp_path


def test_every_record_comes_back_exactly(directory):
    reader = open_cache(directory)
    assert len(reader) == 23
    read = [reader[index] for index in range(len(reader))]
    for got, expected in zip(read, make_records(MANIFEST), strict=True):
        assert_same_record(got, expected)
    for index in (-1, 23):
        with pytest.raises(IndexError, match=f"record {index} is none of the 23"):
            reader[index]


@pytest.mark.parametrize("codec", ["fast", "small"])
def test_many_records_at_once_are_those_read_one_by_one(tmp_path, monkeypatch, codec):
    monkeypatch.setattr(codec_module, "_TOGETHER", 13)  # several groups of several records
    write_cache(tmp_path, dataclasses.replace(MANIFEST, codec=codec))
    reader = open_cache(tmp_path)
    alone = [reader[index] for index in range(23)]
    for got, expected in zip(
        reader.__getitems__([9, 3, 3, *range(23)]),
        [alone[9], alone[3], alone[3], *alone],
        strict=True,
    ):
        assert_same_record(got, expected)
    for got, expected in zip(reader, alone, strict=True):
        assert_same_record(got, expected)
    assert reader.__getitems__([]) == []


def test_what_the_index_says_is_what_the_records_hold(directory):
    reader = open_cache(directory)
    records = make_records(MANIFEST)
    assert reader.lengths.tolist() == [len(record.tokens) for record in records]
    completions = [len(record.targets.counts) for record in records]
    assert reader.completion_lengths.tolist() == completions
    assert reader.kinds == ("emotion", "polarity", "rewriting ↔")
    assert [reader.kinds[kind] for kind in reader.kind_ids] == [record.kind for record in records]
    assert reader.max_entries == max(record.targets.counts.max() for record in records)
    for array in (reader.lengths, reader.completion_lengths, reader.kind_ids):
        assert array.dtype == np.int32


def test_kinds_are_numbered_over_all_shards(tmp_path):
    """A shard lists its own kinds; the first here lacks one that sorts first."""
    manifest = make_manifest(num_prompts=3, records_per_shard=1)
    write_cache(tmp_path, manifest)  # polarity, emotion, rewriting
    assert open_cache(tmp_path).kind_ids.tolist() == [1, 0, 2]


def test_a_pickled_reader_reads_on(directory):
    reader = open_cache(directory)
    _ = reader[7]  # has opened a shard
    copy = pickle.loads(pickle.dumps(reader))
    assert_same_record(copy[7], reader[7])


def test_grain_reads_every_record_once_on_any_number_of_hosts(directory):
    reader = open_cache(directory)
    dataset = grain.MapDataset.source(reader).shuffle(seed=0)
    for hosts in (1, 2, 5):
        seen = [record.prompt_id for host in range(hosts) for record in dataset[host::hosts]]
        assert sorted(seen) == sorted(record.prompt_id for record in make_records(MANIFEST))


def test_grain_threads_share_a_reader(directory):
    dataset = grain.MapDataset.source(open_cache(directory)).repeat(4)
    options = grain.ReadOptions(num_threads=8, prefetch_buffer_size=16)
    records = make_records(MANIFEST)
    for index, got in enumerate(dataset.to_iter_dataset(options)):
        assert_same_record(got, records[index % 23])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("teacher_fingerprint", "other teacher"),
        ("tokenizer_fingerprint", "other tokenizer"),
        ("chat_template_fingerprint", "other template"),
        ("vocab_size", 1001),
        ("temperatures", (1.0, 4.0)),
        ("schema_version", 0),
    ],
)
def test_another_cache_than_expected_is_refused(directory, field, value):
    with pytest.raises(CacheMismatchError, match=f"{field}: got .*, expected "):
        open_cache(directory, expect={field: value})


def test_all_that_differs_or_is_missing_is_listed_at_once(directory):
    (directory / MANIFEST.shard_name(1)).unlink()
    (directory / f"{MANIFEST.shard_name(3)}.json").unlink()
    shard = directory / MANIFEST.shard_name(4)
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(CacheMismatchError) as error:
        open_cache(directory, expect={"top_k": 9, "mode": "top_k", "codec": "small"})
    assert [problem.split(":")[0] for problem in error.value.problems[:2]] == ["top_k", "codec"]
    assert error.value.problems[2:4] == (
        "shard-00001-of-00005 is missing",
        "shard-00003-of-00005.json is missing",
    )
    assert error.value.problems[4].startswith(
        f"shard-00004-of-00005 has {shard.stat().st_size} bytes, expected"
    )
    assert all(problem in str(error.value) for problem in error.value.problems)


def test_what_fits_is_accepted(directory):
    expected = {"temperatures": (1.0, 2.0), "config": MANIFEST.config}
    reader = open_cache(directory, expect=expected)
    assert len(reader) == MANIFEST.num_prompts
    assert reader.manifest.temperatures == (1.0, 2.0)


def test_another_schema_is_refused_before_its_fields_are_read(directory):
    path = directory / "manifest.json"
    values = unseal(path.read_bytes(), path)
    path.write_bytes(seal({**values, "schema_version": 99, "new_field": 1}))
    with pytest.raises(CacheMismatchError, match="schema_version: got 99, expected 4"):
        open_cache(directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values | {"new_field": 1}, "is no manifest .*new_field"),
        (lambda values: {k: v for k, v in values.items() if k != "shards"}, "is no manifest"),
        (lambda values: values | {"shards": 3}, "is no manifest"),
        (lambda values: values | {"shards": values["shards"][:-1]}, "shards: got 4, expected 5"),
    ],
)
def test_a_manifest_that_no_writer_sealed_is_refused(directory, change, message):
    path = directory / "manifest.json"
    path.write_bytes(seal(change(unseal(path.read_bytes(), path))))
    with pytest.raises(CacheError, match=message):
        open_cache(directory)


def test_a_temperature_without_its_tail_is_refused(directory):
    manifest = open_cache(directory).manifest
    assert manifest.temperature_index(2.0) == 1
    with pytest.raises(CacheMismatchError, match=r"one of \(1.0, 2.0\), expected 3.0"):
        manifest.temperature_index(3.0)


def test_no_cache_and_an_unfinished_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="no teacher cache in"):
        open_cache(tmp_path)
    CacheWriter(tmp_path, MANIFEST).write_shard(0, make_records(MANIFEST)[:5])
    with pytest.raises(CacheMismatchError, match="manifest.json is missing"):
        open_cache(tmp_path)


def test_a_damaged_record_is_named_and_the_others_are_read(directory):
    shard = directory / MANIFEST.shard_name(1)
    data = bytearray(shard.read_bytes())
    data[data.index(b"prompt-7")] ^= 0x20
    shard.write_bytes(data)
    reader = open_cache(directory)
    for read in (lambda: reader[7], lambda: reader.__getitems__([6, 7])):
        with pytest.raises(CacheError, match="shard-00001-of-00005, record 7: damaged"):
            read()
    assert reader[6].prompt_id == "prompt-6" and reader[8].prompt_id == "prompt-8"


def test_reading_needs_no_jax():
    """Worker processes of the loader start fast and leave the accelerator alone."""
    code = "import sentidistill_jax.data.teacher_cache, sys; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
