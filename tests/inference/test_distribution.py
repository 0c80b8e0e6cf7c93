"""What is kept of a distribution, against a dense float64 oracle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sentidistill_jax.inference.distribution import (
    SparseDistribution,
    kept_entries,
    sparse_distribution,
)

ROWS, VOCAB = 5, 40
TEMPERATURES = (0.5, 1.0, 2.0)


def _log_softmax(logits):
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def _tail(logits, kept, temperature):
    rest = _log_softmax(logits / temperature)
    rest[sorted(set(kept) - {-1})] = -np.inf
    return np.logaddexp.reduce(rest)


def _check(logits, chosen, k, rtol=1e-5):
    got = sparse_distribution(
        jnp.asarray(logits, jnp.float32), jnp.asarray(chosen), k=k, temperatures=TEMPERATURES
    )
    got = jax.tree.map(np.asarray, got)
    logits = np.asarray(np.asarray(logits, np.float32), np.float64)
    logprobs = _log_softmax(logits)
    for row in range(len(logits)):
        descending = -np.sort(-logprobs[row])
        np.testing.assert_allclose(got.top_k_logprobs[row], descending[:k], rtol=rtol, atol=1e-6)
        np.testing.assert_allclose(
            logprobs[row, got.top_k_ids[row]], descending[:k], rtol=rtol, atol=1e-6
        )
        assert len(set(got.top_k_ids[row])) == k
        wanted = np.where(chosen[row] < 0, -np.inf, logprobs[row, chosen[row]])
        np.testing.assert_allclose(got.chosen_logprobs[row], wanted, rtol=rtol, atol=1e-6)
        np.testing.assert_array_equal(got.chosen_ids[row], chosen[row])
        tails = [_tail(logits[row], {*got.top_k_ids[row], *chosen[row]}, t) for t in TEMPERATURES]
        np.testing.assert_allclose(got.tail_logprobs[row], tails, rtol=rtol, atol=1e-6)
    return got


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(0, 3, (ROWS, VOCAB))


@pytest.mark.parametrize("k", [1, 7])
def test_random_distributions(logits, k):
    chosen = np.random.default_rng(1).integers(-1, VOCAB, (ROWS, 4)).astype(np.int32)
    _check(logits, chosen, k)


def test_a_chosen_token_in_the_top_k_or_chosen_twice_is_taken_from_the_tail_once(logits):
    likeliest = np.argsort(-logits, axis=-1)
    chosen = likeliest[:, [0, 10, 10, 2]].astype(np.int32)
    _check(logits, chosen, 3)


def test_padding_is_no_token(logits):
    padded = np.full((ROWS, 3), -1, np.int32)
    got = _check(logits, padded, 2)
    plain = _check(logits, np.zeros((ROWS, 0), np.int32), 2)
    np.testing.assert_array_equal(got.tail_logprobs, plain.tail_logprobs)


@pytest.mark.parametrize("gap", [20.0, 80.0, 200.0])
def test_a_tiny_tail_keeps_its_precision(gap):
    """1 minus the kept mass would be 0 in float32 from a gap of 17 on."""
    logits = np.random.default_rng(2).normal(0, 1, (ROWS, VOCAB))
    logits[:, :2] += gap
    got = _check(logits, np.full((ROWS, 1), -1, np.int32), 2)
    assert (got.tail_logprobs[:, 1] < 10 - gap).all()


def test_an_empty_tail_is_minus_infinity(logits):
    got = _check(logits, np.full((ROWS, 1), 3, np.int32), VOCAB)
    assert np.isneginf(got.tail_logprobs).all()


def test_low_precision_logits_are_reduced_in_float32(logits):
    rounded = jnp.asarray(logits, jnp.bfloat16)
    chosen = jnp.full((ROWS, 1), 3)
    got = sparse_distribution(rounded, chosen, k=2, temperatures=(1.0,))
    wide = sparse_distribution(rounded.astype(jnp.float32), chosen, k=2, temperatures=(1.0,))
    jax.tree.map(np.testing.assert_array_equal, got, wide)


def test_kept_entries_are_the_top_k_and_then_what_was_chosen_besides():
    row = SparseDistribution(
        top_k_ids=np.array([7, 3]),
        top_k_logprobs=np.array([-0.5, -1.0]),
        chosen_ids=np.array([9, 3, -1, 5, 9]),
        chosen_logprobs=np.array([-4.0, -1.0, -np.inf, -2.0, -4.0]),
        tail_logprobs=np.array([-3.0]),
    )
    ids, logprobs = kept_entries(row)
    assert ids.tolist() == [7, 3, 5, 9]
    assert logprobs.tolist() == [-0.5, -1.0, -2.0, -4.0]
    assert (ids.dtype, logprobs.dtype) == (np.int32, np.float32)
