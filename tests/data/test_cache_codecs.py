"""What comes out of a codec: ids as they went in, logprobs within the stated bounds."""

import dataclasses

import numpy as np
import pytest
from cache_records import (
    assert_same_targets,
    exact_targets,
    log_softmax,
    make_manifest,
    random_targets,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sentidistill_jax.data.teacher_cache import SparseTargets, draw, sampled_targets
from sentidistill_jax.data.teacher_cache.codec import make_codec
from sentidistill_jax.data.teacher_cache.small import (
    DEPTH_NATS,
    MAX_KL_NATS,
    MAX_LOGPROB_ERROR,
    closed_kl,
)


def recode(targets: SparseTargets, **manifest) -> SparseTargets:
    codec = make_codec(make_manifest(**manifest))
    data = codec.encode_targets(targets.sorted_by_id())
    (got,) = codec.decode_targets([memoryview(data)], [len(targets.counts)])
    return got


def assert_within_bounds(got: SparseTargets, given: SparseTargets, temperatures):
    given = given.sorted_by_id()
    np.testing.assert_array_equal(got.counts, given.counts)
    np.testing.assert_array_equal(got.ids, given.ids)
    rows = np.repeat(np.arange(len(given.counts)), given.counts)
    largest = np.full(len(given.counts), -np.inf)
    np.maximum.at(largest, rows, given.logprobs)
    stored = np.maximum(given.logprobs, largest[rows] - DEPTH_NATS)
    assert np.abs(got.logprobs - stored).max() <= MAX_LOGPROB_ERROR
    np.testing.assert_allclose(got.tail_logprobs, given.tail_logprobs, rtol=2**-11, atol=2**-20)
    for column, temperature in enumerate(temperatures):
        kl = closed_kl(
            stored,
            got.logprobs,
            given.tail_logprobs[:, column],
            got.tail_logprobs[:, column],
            given.counts,
            temperature,
        )
        assert kl.max() <= 1.001 * MAX_KL_NATS  # float32 differs a little between machines


shapes = st.tuples(
    st.integers(0, 2**32 - 1),  # seed
    st.integers(1, 20),  # positions
    st.sampled_from([2, 9, 1000, 2**15]),  # vocab
    st.sampled_from([1, 3, 64, 256]),  # max_entries
    st.sampled_from([0.0, 0.5, 3.0, 9.0]),  # spread of the logits
)


def targets_of(shape, temperatures) -> SparseTargets:
    seed, positions, vocab, max_entries, spread = shape
    return random_targets(
        np.random.default_rng(seed),
        positions,
        vocab=vocab,
        max_entries=min(max_entries, vocab - 1),
        spread=spread,
        temperatures=temperatures,
    )


@given(shapes)
@settings(deadline=None)
def test_fast_is_exact(shape):
    targets = targets_of(shape, (1.0, 3.0))
    got = recode(targets, codec="fast", vocab_size=shape[2], top_k=1, temperatures=(1.0, 3.0))
    assert_same_targets(got, targets)


@given(shapes, st.sampled_from([(1.0,), (1.0, 2.0, 0.5)]))
@settings(deadline=None)
def test_small_keeps_ids_and_both_bounds(shape, temperatures):
    targets = targets_of(shape, temperatures)
    got = recode(targets, codec="small", vocab_size=shape[2], top_k=1, temperatures=temperatures)
    assert_within_bounds(got, targets, temperatures)


def test_small_closes_entries_and_tail_to_mass_one():
    targets = random_targets(np.random.default_rng(0), 50, max_entries=64)
    got = recode(targets, codec="small")
    mass = np.add.reduceat(np.exp(got.logprobs), np.cumsum(got.counts) - got.counts)
    np.testing.assert_allclose(mass + np.exp(got.tail_logprobs[:, 0]), 1, atol=1e-5)


def test_small_at_the_largest_vocabulary_and_set():
    vocab = 2**18
    logits = np.random.default_rng(0).normal(0, 2, (3, vocab))
    kept = [np.union1d(np.argsort(-row)[:256], [0, vocab - 1]) for row in logits]
    targets = exact_targets(logits, kept, (1.0,))
    got = recode(targets, codec="small", vocab_size=vocab, top_k=256, temperatures=(1.0,))
    assert_within_bounds(got, targets, (1.0,))


def test_small_spends_18_bits_an_entry_on_random_sets_of_a_large_vocabulary():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (40, 128_256))
    targets = exact_targets(logits, list(np.argsort(-logits, axis=1)[:, :64]), (1.0,))
    codec = make_codec(make_manifest(codec="small", vocab_size=128_256, temperatures=(1.0,)))
    assert len(codec.encode_targets(targets.sorted_by_id())) / 40 < 64 * 18 / 8


def test_small_where_nothing_is_left_for_the_tail():
    logits = np.random.default_rng(0).normal(0, 2, (4, 5))
    targets = exact_targets(logits, [np.arange(5)] * 4, (1.0, 2.0))
    assert (targets.tail_logprobs == -np.inf).all()
    got = recode(targets, codec="small", vocab_size=5, top_k=5)
    assert_within_bounds(got, targets, (1.0, 2.0))
    assert (got.tail_logprobs == -np.inf).all()


def test_small_with_a_kept_token_of_hardly_any_mass():
    logits = np.zeros((2, 100))
    logits[0, 0] = 55.0  # within DEPTH_NATS
    logits[1, 0] = 85.0  # beyond it
    targets = exact_targets(logits, [np.array([0, 7])] * 2, (1.0,))
    got = recode(targets, codec="small", vocab_size=100, temperatures=(1.0,))
    assert_within_bounds(got, targets, (1.0,))
    assert abs(got.logprobs[3] + DEPTH_NATS) <= MAX_LOGPROB_ERROR


def test_small_needs_more_levels_at_more_temperatures():
    """The KL bound holds at each temperature of the manifest, not at 1 alone."""
    targets = random_targets(np.random.default_rng(0), 200, max_entries=32, temperatures=(1.0, 0.5))
    only_1 = dataclasses.replace(targets, tail_logprobs=targets.tail_logprobs[:, :1])
    got = recode(only_1, codec="small", temperatures=(1.0,))
    given = targets.sorted_by_id()
    tail = given.tail_logprobs[:, 1]
    kl = closed_kl(given.logprobs, got.logprobs, tail, tail, given.counts, 0.5)
    assert kl.max() > MAX_KL_NATS
    assert_within_bounds(
        recode(targets, codec="small", temperatures=(1.0, 0.5)), targets, (1.0, 0.5)
    )


def test_small_refuses_a_tail_that_does_not_fit_the_entries():
    targets = random_targets(np.random.default_rng(0), 5, temperatures=(1.0,))
    wrong = dataclasses.replace(targets, tail_logprobs=np.full((5, 1), -1e-3, np.float32))
    with pytest.raises(ValueError, match="masses must add up to 1"):
        recode(wrong, codec="small", temperatures=(1.0,))


def test_small_shares_recurring_ids_within_a_record():
    logits = np.random.default_rng(0).normal(0, 3, (1, 30_000))
    kept = np.argsort(-logits[0])[:64]
    once = exact_targets(logits, [kept], (1.0,))
    often = exact_targets(np.repeat(logits, 40, axis=0), [kept] * 40, (1.0,))
    codec = make_codec(make_manifest(codec="small", vocab_size=30_000, temperatures=(1.0,)))
    size = len(codec.encode_targets(often.sorted_by_id()))
    assert size < 40 * 0.6 * len(codec.encode_targets(once.sorted_by_id()))


@pytest.mark.parametrize("codec", ["fast", "small"])
@given(st.lists(shapes, min_size=1, max_size=6))
@settings(deadline=None, max_examples=30)
def test_records_decoded_together_are_those_decoded_alone(codec, some):
    """Among them ones with a dictionary of their ids and ones without."""
    coder = make_codec(make_manifest(codec=codec, vocab_size=2**15))
    given = [targets_of(shape, (1.0, 2.0)).sorted_by_id() for shape in some]
    parts = [memoryview(coder.encode_targets(targets)) for targets in given]
    positions = [len(targets.counts) for targets in given]
    for index, together in enumerate(coder.decode_targets(parts, positions)):
        (alone,) = coder.decode_targets(parts[index : index + 1], positions[index : index + 1])
        assert_same_targets(together, alone)
        np.testing.assert_array_equal(together.ids, given[index].ids)


@pytest.mark.parametrize("codec", ["fast", "small"])
@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.sampled_from([0.1, 2.0]))
@settings(deadline=None, max_examples=30)
def test_draws_come_back_exactly(codec, seed, num_draws, spread):
    rng = np.random.default_rng(seed)
    logprobs = log_softmax(rng.normal(0, spread, (5, 300)))
    targets = sampled_targets(draw(logprobs, num_draws, rng))
    got = recode(
        targets,
        codec=codec,
        mode="sampled",
        num_draws=num_draws,
        vocab_size=300,
        temperatures=(1.0,),
    )
    assert_same_targets(got, targets)


@pytest.mark.parametrize("codec", ["fast", "small"])
@pytest.mark.parametrize("vocab", [2, 49_152, 2**18])
def test_tokens_round_trip(codec, vocab):
    coder = make_codec(make_manifest(codec=codec, vocab_size=vocab, top_k=1))
    tokens = np.random.default_rng(0).integers(0, vocab, 77, dtype=np.int32)
    parts = [memoryview(coder.encode_tokens(part)) for part in (tokens[:30], tokens)]
    for got, expected in zip(
        coder.decode_tokens(parts, [30, 77]), (tokens[:30], tokens), strict=True
    ):
        assert got.dtype == np.int32
        np.testing.assert_array_equal(got, expected)


def test_closed_kl_is_the_definition():
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.6, 0.3, 0.1])  # the last is the tail
    log_p, log_q = np.log(p), np.log(q)
    kl = closed_kl(log_p[:2], log_q[:2], log_p[2:], log_q[2:], np.array([2]), 1.0)
    np.testing.assert_allclose(kl, [(p * (log_p - log_q)).sum()], rtol=1e-12)


def test_closed_kl_at_another_temperature_is_that_of_the_tempered_distributions():
    logits = np.random.default_rng(0).normal(0, 3, (2, 50))
    kept = [np.arange(49)] * 2  # the tail is one token, so nothing is lost in it
    p, q = (exact_targets(row[None], kept[:1], (2.0,)) for row in logits)
    log_p, log_q = log_softmax(logits / 2)
    kl = closed_kl(
        p.logprobs, q.logprobs, p.tail_logprobs[:, 0], q.tail_logprobs[:, 0], p.counts, 2.0
    )
    np.testing.assert_allclose(kl, [(np.exp(log_p) * (log_p - log_q)).sum()], rtol=1e-5)
