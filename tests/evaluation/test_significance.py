import numpy as np
import pytest

from sentidistill_jax.evaluation.benchmarks.sentiment_graph import graph_scores
from sentidistill_jax.evaluation.metrics import label_counts, label_scores
from sentidistill_jax.evaluation.significance import bootstrap_interval, holm, paired_randomization

NUM_SENTENCES = 400


def _accuracy(totals):
    """Cells: right, wrong. Its sampling distribution is known in closed form."""
    return {"f1": totals[..., 0] / totals.sum(axis=-1)}


def _counts(rate, seed):
    right = np.random.default_rng(seed).random(NUM_SENTENCES) < rate
    return np.stack([right, ~right], axis=-1).astype(np.int64)


def test_interval_agrees_with_the_normal_approximation():
    counts = _counts(0.7, seed=0)
    interval = bootstrap_interval(counts, _accuracy, seed=1)
    error = 1.96 * np.sqrt(interval.value * (1 - interval.value) / NUM_SENTENCES)
    assert interval.value == counts[:, 0].mean()
    assert interval.low == pytest.approx(interval.value - error, abs=0.006)
    assert interval.high == pytest.approx(interval.value + error, abs=0.006)


def test_interval_narrows_with_confidence_and_repeats_with_its_seed():
    counts = _counts(0.7, seed=0)
    wide = bootstrap_interval(counts, _accuracy, seed=1, num_resamples=600)
    narrow = bootstrap_interval(counts, _accuracy, seed=1, num_resamples=600, confidence=0.5)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert wide == bootstrap_interval(counts, _accuracy, seed=1, num_resamples=600)


def test_interval_of_macro_f1_holds_its_value():
    generator = np.random.default_rng(0)
    gold = generator.integers(0, 3, NUM_SENTENCES)
    predicted = np.where(generator.random(NUM_SENTENCES) < 0.7, gold, 0)
    interval = bootstrap_interval(
        label_counts(gold, predicted, 3), label_scores, seed=0, num_resamples=600
    )
    assert interval.low < interval.value < interval.high
    assert interval.high - interval.low < 0.12


def test_randomization_of_one_disagreement_is_exact():
    # Whichever way the one sentence is exchanged, the difference is as large: p = 1.
    first = _counts(0.7, seed=0)
    second = first.copy()
    second[3] = second[3][::-1]
    assert paired_randomization(first, second, _accuracy, seed=0).p_value == 1.0


def test_randomization_ignores_rounding():
    # As above, with fractional counts: the two differences agree only up to rounding.
    first = np.random.default_rng(6).random((300, 4))
    first[:, 1::2] = 2, 3
    second = first.copy()
    second[3, ::2] = 0.11, 0.07
    assert paired_randomization(first, second, graph_scores, seed=0).p_value == 1.0


def test_randomization_agrees_with_the_sign_test():
    # 10 disagreements, all for the first run: two of 2 ** 10 exchanges are as extreme.
    second = np.tile([0, 1], (NUM_SENTENCES, 1))
    first = second.copy()
    first[:10] = [1, 0]
    comparison = paired_randomization(first, second, _accuracy, seed=0, num_resamples=20_000)
    assert comparison.difference == pytest.approx(10 / NUM_SENTENCES)
    assert comparison.p_value == pytest.approx(2 / 2**10, abs=6e-4)


def test_randomization_swaps_sign_with_its_arguments():
    first, second = _counts(0.8, seed=0), _counts(0.6, seed=1)
    forward = paired_randomization(first, second, _accuracy, seed=0, num_resamples=999)
    backward = paired_randomization(second, first, _accuracy, seed=0, num_resamples=999)
    assert forward.difference == -backward.difference > 0
    assert forward.p_value == backward.p_value == 1 / 1000


def test_input_is_checked():
    with pytest.raises(ValueError, match=r"confidence=95.0, expected a number in \(0, 1\)"):
        bootstrap_interval(_counts(0.5, 0), _accuracy, seed=0, confidence=95.0)
    with pytest.raises(ValueError, match="counts has no sentences"):
        bootstrap_interval(np.zeros((0, 2)), _accuracy, seed=0)
    with pytest.raises(ValueError, match=r"first has shape \(400, 2\), second \(3, 2\)"):
        paired_randomization(_counts(0.5, 0), _counts(0.5, 0)[:3], _accuracy, seed=0)


def test_holm_by_hand():
    """Holm's steps: 3 x 0.01, 2 x 0.02, 1 x 0.03 raised to the one before."""
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
