"""Kept entries and tails against dense distributions; sampled targets against the truth."""

import numpy as np
import pytest
from cache_records import exact_targets, log_softmax

from benchmarks.dense_teacher import reduce_dense
from sentidistill_jax.data.teacher_cache import (
    SparseTargets,
    draw,
    sampled_targets,
    select_top_k,
    select_top_p,
)

TEMPERATURES = (1.0, 2.0, 0.5)
VOCAB, ROWS, CANDIDATES = 50, 40, 12
FORCED = np.stack([np.arange(ROWS) % VOCAB, np.full(ROWS, 7), np.full(ROWS, -1)], axis=1)


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2, (ROWS, VOCAB))


def select(function, logits: np.ndarray, forced: np.ndarray | None = None, **how) -> SparseTargets:
    logprobs = log_softmax(logits)
    ids, top, tails = reduce_dense(
        logprobs, candidates=CANDIDATES, temperatures=TEMPERATURES, forced_ids=forced
    )
    if forced is not None:
        forced_logprobs = np.take_along_axis(logprobs, np.maximum(forced, 0), axis=1)
        how |= {"forced_ids": forced, "forced_logprobs": forced_logprobs}
    return function(ids, top, tails, temperatures=TEMPERATURES, **how)


def assert_keeps(got: SparseTargets, logits: np.ndarray, kept: list[np.ndarray]):
    expected = exact_targets(logits, kept, TEMPERATURES).sorted_by_id()
    got = got.sorted_by_id()
    np.testing.assert_array_equal(got.counts, expected.counts)
    np.testing.assert_array_equal(got.ids, expected.ids)
    np.testing.assert_allclose(got.logprobs, expected.logprobs, rtol=1e-6)
    np.testing.assert_allclose(got.tail_logprobs, expected.tail_logprobs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("k", [1, 5, CANDIDATES])
def test_top_k_moves_dropped_candidates_into_the_tail(logits, k):
    order = np.argsort(-logits, axis=1)
    assert_keeps(select(select_top_k, logits, k=k), logits, list(order[:, :k]))


@pytest.mark.parametrize("k", [1, CANDIDATES])
def test_forced_tokens_are_kept_once_whatever_their_rank(logits, k):
    order = np.argsort(-logits, axis=1)
    kept = [np.union1d(row[:k], row_ids[:2]) for row, row_ids in zip(order, FORCED, strict=True)]
    assert_keeps(select(select_top_k, logits, FORCED, k=k), logits, kept)


@pytest.mark.parametrize("forced", [None, FORCED])
def test_top_p_is_the_smallest_set_that_covers(logits, forced):
    kept = []
    for row, (order, probs) in enumerate(
        zip(np.argsort(-logits, axis=1), np.exp(log_softmax(logits)), strict=True)
    ):
        size = next((n for n in range(1, CANDIDATES) if probs[order[:n]].sum() >= 0.9), CANDIDATES)
        kept.append(np.union1d(order[:size], [] if forced is None else forced[row, :2]).astype(int))
    sizes = {len(ids) for ids in kept}
    assert len(sizes) > 3 and max(sizes) >= CANDIDATES  # some rows stop early, some at the cap
    assert_keeps(select(select_top_p, logits, forced, top_p=0.9), logits, kept)


def test_a_token_without_mass_is_not_kept(logits):
    logits[:, 3] = -np.inf
    forced = np.full((ROWS, 1), 3)
    got = select(select_top_k, logits, forced, k=4)
    assert (got.counts == 4).all() and 3 not in got.ids


def test_draws_become_distinct_ids_with_their_share():
    got = sampled_targets(np.array([[7, 3, 7, 7], [3, 3, 3, 3], [3, 2, 1, 0]]))
    assert got.counts.tolist() == [2, 1, 4]
    assert got.ids.tolist() == [3, 7, 3, 0, 1, 2, 3]
    np.testing.assert_allclose(np.exp(got.logprobs), [0.25, 0.75, 1, 0.25, 0.25, 0.25, 0.25])
    assert got.tail_logprobs.tolist() == [[-np.inf]] * 3


def test_sampled_targets_are_unbiased():
    """Over many draws both the shares and a student's loss meet the teacher's, within 5 sigma."""
    rng = np.random.default_rng(0)
    repeats, num_draws, vocab = 4000, 12, 30
    teacher = log_softmax(rng.normal(0, 2, vocab))
    student = log_softmax(rng.normal(0, 2, vocab))
    targets = sampled_targets(draw(np.tile(teacher, (repeats, 1)), num_draws, rng))
    rows = np.repeat(np.arange(repeats), targets.counts)
    shares = np.zeros((repeats, vocab))
    shares[rows, targets.ids] = np.exp(targets.logprobs)
    losses = -shares @ student
    for estimates, truth in [(shares, np.exp(teacher)), (losses, -np.exp(teacher) @ student)]:
        sigma = estimates.std(axis=0) / np.sqrt(repeats)
        assert (np.abs(estimates.mean(axis=0) - truth) <= 5 * sigma + 1e-9).all()
    # Keeping the likeliest tokens only and renormalizing, as top-k without a tail does, is not.
    top = np.sort(np.exp(teacher))[::-1][:6]
    assert top.max() / top.sum() - top.max() > 5 * shares.std(axis=0).max() / np.sqrt(repeats)
