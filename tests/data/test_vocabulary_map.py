"""Records in a student's ids against dense distributions."""

import dataclasses

import numpy as np
import pytest
from helpers import make_manifest, random_cache, random_record, targets_of, write_cache

from sentidistill_jax.data.loader import BatchShape, PackedBatches
from sentidistill_jax.data.teacher_cache import open_cache, sampled_targets
from sentidistill_jax.data.teacher_cache.selection import drop_entries
from sentidistill_jax.data.vocabulary_map import check_tokens, to_student, token_counts

VOCAB, TEMPERATURES = 40, (1.0, 2.0, 0.5)


@pytest.fixture
def record():
    manifest = make_manifest(1, vocab_size=VOCAB, temperatures=TEMPERATURES)
    return random_record(
        np.random.default_rng(1), manifest, prompt=5, completion=6, kind="polarity"
    )


def test_mass_of_dropped_entries_goes_to_the_tail_at_every_temperature(record):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (6, VOCAB))
    kept = np.argsort(-logits, axis=-1)[:, :8]
    targets = targets_of(logits, kept, TEMPERATURES)
    got = drop_entries(targets, np.tile(np.arange(8) % 2 == 0, 6), TEMPERATURES)
    expected = targets_of(logits, kept[:, ::2], TEMPERATURES)
    np.testing.assert_array_equal(got.counts, expected.counts)
    np.testing.assert_array_equal(got.ids, expected.ids)
    np.testing.assert_array_equal(got.logprobs, expected.logprobs)
    np.testing.assert_allclose(got.tail_logprobs, expected.tail_logprobs, rtol=1e-4, atol=1e-6)


def test_positions_without_a_dropped_entry_keep_their_bits():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (3, VOCAB))
    targets = targets_of(logits, np.argsort(-logits, axis=-1)[:, :4], TEMPERATURES)
    keep = np.ones((12,), bool)
    keep[5] = False
    got = drop_entries(targets, keep, TEMPERATURES)
    assert got.counts.tolist() == [4, 3, 4]
    np.testing.assert_array_equal(got.tail_logprobs[[0, 2]], targets.tail_logprobs[[0, 2]])
    assert (got.tail_logprobs[1] > targets.tail_logprobs[1]).all()


def test_draws_are_refused_as_they_have_no_tail(tmp_path, record):
    """The loss reads no tail of draws: the share of the dropped ones would be lost."""
    manifest = make_manifest(1, vocab_size=VOCAB, mode="sampled", num_draws=4, temperatures=(1.0,))
    targets = sampled_targets(np.full((6, 4), 7))
    drawn = dataclasses.replace(record, targets=targets, labels=None)
    reader = open_cache(write_cache(tmp_path / "drawn", [drawn], manifest))
    new_ids = np.arange(VOCAB, dtype=np.int32)
    shape = BatchShape(1, 14, 6)
    assert PackedBatches([reader], shape, epochs=1, seed=0).sampled
    with pytest.raises(ValueError, match="'sampled' cannot teach .* trimmed vocabulary"):
        PackedBatches([reader], shape, epochs=1, seed=0, new_ids=new_ids)


def test_a_record_in_the_students_ids_is_the_same_record(record):
    needed = np.union1d(record.tokens, record.labels.ids)
    new_ids = np.full((VOCAB,), -1, np.int32)
    new_ids[needed] = np.arange(len(needed))
    got = to_student(record, new_ids, TEMPERATURES)
    assert got.labels is not None
    np.testing.assert_array_equal(needed[got.tokens], record.tokens)
    np.testing.assert_array_equal(needed[got.labels.ids], record.labels.ids)
    np.testing.assert_array_equal(needed[got.targets.ids], np.extract(
        new_ids[record.targets.ids] >= 0, record.targets.ids
    ))  # fmt: skip
    assert 0 < len(got.targets.ids) < len(record.targets.ids)
    mass = np.exp(got.targets.tail_logprobs[:, 0])
    np.add.at(mass, np.repeat(np.arange(6), got.targets.counts), np.exp(got.targets.logprobs))
    np.testing.assert_allclose(mass, 1, rtol=1e-5)


def test_a_student_with_all_tokens_has_the_record_as_it_is(record):
    got = to_student(record, np.arange(VOCAB, dtype=np.int32), TEMPERATURES)
    np.testing.assert_array_equal(got.tokens, record.tokens)
    for field in dataclasses.fields(record.targets):
        one, other = (getattr(r.targets, field.name) for r in (got, record))
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def reader(tmp_path):
    return open_cache(random_cache(tmp_path / "cache", [(4, 3)] * 5, vocab_size=VOCAB))


def test_counts_are_those_of_the_records(reader):
    occurrences, expected = token_counts([reader, reader], VOCAB)
    records = [reader[index] for index in range(5)]
    labels = sum(len(record.labels.ids) for record in records if record.labels is not None)
    assert labels > 0
    assert occurrences.sum() == 2 * (5 * 7 + labels)
    token = int(records[0].tokens[0])
    seen = sum(int((record.tokens == token).sum()) for record in records)
    seen += sum(
        int((record.labels.ids == token).sum()) for record in records if record.labels is not None
    )
    assert occurrences[token] == 2 * seen
    mass = sum(np.exp(record.targets.logprobs).sum() for record in records)
    np.testing.assert_allclose(expected.sum(), 2 * mass, rtol=1e-5)


def test_batches_are_in_the_students_ids(reader):
    occurrences, _ = token_counts([reader], VOCAB)
    kept = np.flatnonzero(occurrences)
    new_ids = np.full((VOCAB,), -1, np.int32)
    new_ids[kept] = np.arange(len(kept))
    shape = BatchShape(2, 14, 6)
    whole = PackedBatches([reader], shape, epochs=1, seed=0)
    mapped = PackedBatches([reader], shape, epochs=1, seed=0, new_ids=new_ids)
    check_tokens([reader], new_ids)
    before, after = whole[0], mapped[0]
    real = before["segment_ids"] > 0
    np.testing.assert_array_equal(kept[after["tokens"][real]], before["tokens"][real])
    scored = before["loss_mask"] > 0
    np.testing.assert_array_equal(kept[after["targets"][scored]], before["targets"][scored])
    mass = np.exp(after["top_k_logprobs"]).sum(-1) + np.exp(after["tail_logprobs"][..., 0])
    np.testing.assert_allclose(mass[scored], 1, rtol=1e-5)
    assert (after["tail_logprobs"] > before["tail_logprobs"]).any()


def test_a_cache_with_tokens_that_a_student_lacks_is_refused(reader):
    new_ids = np.arange(VOCAB, dtype=np.int32)
    new_ids[[int(reader[0].tokens[0]), int(reader[0].tokens[1])]] = -1
    with pytest.raises(ValueError, match=r"hold 2 tokens that .* lacks; name .* student.caches"):
        check_tokens([reader], new_ids)
