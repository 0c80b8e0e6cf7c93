"""What `verify` and `inspect` say about a cache."""

import dataclasses

import numpy as np
import pytest
from cache_records import log_softmax, make_manifest, make_records, write_cache

from sentidistill_jax.data.teacher_cache import (
    CacheWriter,
    draw,
    inspect,
    sampled_targets,
    verify,
)
from sentidistill_jax.data.teacher_cache.manifest import read_log

MANIFEST = make_manifest(num_prompts=23, records_per_shard=5, codec="small")
NUM_BYTES = 5 * 2**17  # array_record fills its blocks of 64 KiB, one of them with the index


@pytest.fixture
def directory(tmp_path):
    write_cache(tmp_path, MANIFEST)
    return tmp_path


def _shard_bytes(directory):
    return sum((directory / MANIFEST.shard_name(shard)).stat().st_size for shard in range(5))


def test_verify_counts_what_is_there(directory):
    report = verify(directory)
    records = make_records(MANIFEST)
    assert report.num_shards == 5
    assert report.num_records == 23
    assert report.num_tokens == sum(len(record.tokens) for record in records)
    assert report.num_completion_tokens == sum(len(record.targets.counts) for record in records)
    assert report.num_bytes == _shard_bytes(directory)
    assert report.num_repeated_keys == 0
    assert report.problems == ()
    assert "every checksum and key fits" in str(report)


def test_verify_goes_on_after_damage_and_names_it(directory):
    for shard, text in [(1, b"prompt-7"), (3, b"prompt-16")]:
        path = directory / MANIFEST.shard_name(shard)
        data = bytearray(path.read_bytes())
        data[data.index(text)] ^= 1
        path.write_bytes(data)
    report = verify(directory)
    found = [problem.split(" (")[0].split(":")[0] for problem in report.problems]
    assert found == [
        "shard-00001-of-00005",
        "shard-00001-of-00005, record 7",
        "shard-00003-of-00005",
        "shard-00003-of-00005, record 16",
    ]
    assert str(report).endswith("4 problems")


def test_verify_compares_records_with_their_log(directory):
    """A log whose checksums fit but whose lengths are wrong, as a faulty writer would leave it."""
    log_file = directory / f"{MANIFEST.shard_name(0)}.json"
    log = read_log(directory / MANIFEST.shard_name(0))
    lengths = log.lengths + np.array([0, 0, 1, 0, 0], np.int32)
    log_file.write_bytes(dataclasses.replace(log, lengths=lengths).to_bytes())
    CacheWriter(directory, MANIFEST).finish()
    (problem,) = verify(directory).problems
    assert problem.startswith("shard-00000-of-00005, record 2: ")


def test_verify_counts_repeated_records(tmp_path):
    manifest = make_manifest(num_prompts=3, records_per_shard=3)
    records = make_records(manifest)
    records[2] = records[0]
    writer = CacheWriter(tmp_path, manifest)
    writer.write_shard(0, records)
    writer.finish()
    assert verify(tmp_path).num_repeated_keys == 1


def test_inspect_measures_the_records(directory):
    statistics = inspect(directory)
    records = make_records(MANIFEST)
    positions = sum(len(record.targets.counts) for record in records)
    assert statistics.num_sampled == 23
    assert statistics.mean_entries == sum(len(r.targets.ids) for r in records) / positions
    assert statistics.max_entries == max(record.targets.counts.max() for record in records)
    entropy = 0.0
    tail_mass = []
    for record in records:
        masses = np.exp([*record.targets.logprobs, *record.targets.tail_logprobs[:, 0]])
        entropy -= (masses * np.log(masses)).sum() / positions
        tail_mass += np.exp(record.targets.tail_logprobs[:, 0]).tolist()
    assert statistics.mean_entropy_nats == pytest.approx(entropy, rel=1e-2)  # codec small
    assert statistics.tail_mass_counts.sum() == positions
    assert statistics.tail_mass_counts[-1] == sum(mass > 10**-0.5 for mass in tail_mass)
    assert sum(statistics.tokens_by_kind.values()) == positions
    assert statistics.tokens_by_kind["polarity"] == sum(
        len(record.targets.counts) for record in records if record.kind == "polarity"
    )
    assert statistics.file_bytes_per_token == _shard_bytes(directory) / positions
    assert 8 < statistics.target_bytes_per_token < 40
    assert [record.prompt_id for record in statistics.examples] == [
        "prompt-0",
        "prompt-1",
        "prompt-2",
    ]


def test_inspect_samples_evenly(directory):
    statistics = inspect(directory, max_records=3)
    assert [record.prompt_id for record in statistics.examples] == [
        "prompt-0",
        "prompt-11",
        "prompt-22",
    ]


def test_inspect_draws_a_picture(directory):
    text = str(inspect(directory))
    assert "teacher_fingerprint: teacher" in text
    assert "█" in text and "10^-6 to 10^-5" in text


def test_inspect_of_sampled_targets_has_no_tail(tmp_path):
    manifest = make_manifest(
        num_prompts=1, records_per_shard=1, mode="sampled", num_draws=5, temperatures=(1.0,)
    )
    record = make_records(manifest)[0]
    rng = np.random.default_rng(0)
    logprobs = log_softmax(rng.normal(size=(len(record.targets.counts), 1000)))
    targets = sampled_targets(draw(logprobs, 5, rng))
    writer = CacheWriter(tmp_path, manifest)
    writer.write_shard(0, [dataclasses.replace(record, targets=targets)])
    writer.finish()
    assert inspect(tmp_path).tail_mass_counts.tolist()[0] == len(targets.counts)
