"""Calibration takes out a label bias it was never told."""

import numpy as np
import pytest

from sentidistill_jax.teacher.calibration import ensemble, fit_offset, fit_offsets


def _scores(rng, texts, share):
    """Label logprobs of texts of which `share` are of label 0, and their labels."""
    labels = (rng.random(texts) >= share).astype(int)
    evidence = rng.normal(1.5, 1.0, texts)
    logits = np.where(np.arange(2) == labels[:, None], evidence[:, None], 0.0)
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), labels


@pytest.mark.parametrize("prior", [(0.5, 0.5), (0.8, 0.2)])
def test_the_average_prediction_meets_the_prior(prior):
    rng = np.random.default_rng(0)
    scores, _ = _scores(rng, 500, prior[0])
    offset = fit_offset(scores + [1.7, -0.4], np.array(prior))
    shifted = scores + [1.7, -0.4] + offset
    probs = np.exp(shifted - np.logaddexp.reduce(shifted, axis=1, keepdims=True))
    np.testing.assert_allclose(probs.mean(axis=0), prior, atol=1e-4)


def test_a_known_bias_is_undone_in_every_draw():
    rng = np.random.default_rng(1)
    scores, labels = _scores(rng, 2000, 0.5)
    biases = np.array([[2.0, 0.0], [0.0, 3.0]])
    by_draw = scores[:, None] + biases
    offsets = fit_offsets(by_draw, np.array([0.5, 0.5]))
    recovered = (offsets + biases)[:, 0] - (offsets + biases)[:, 1]
    np.testing.assert_allclose(recovered, 0, atol=0.15)
    raw = (ensemble(by_draw[:, :1], None).argmax(axis=1) == labels).mean()
    calibrated = (ensemble(by_draw, offsets).argmax(axis=1) == labels).mean()
    assert calibrated > raw + 0.1


def test_an_ensemble_is_normalised():
    scores = np.random.default_rng(2).normal(size=(5, 3, 4))
    np.testing.assert_allclose(np.exp(ensemble(scores, None)).sum(axis=1), 1, rtol=1e-5)


def test_a_skewed_pool_needs_its_own_prior():
    scores, labels = _scores(np.random.default_rng(3), 2000, 0.9)
    biased = (scores + [0.0, 1.5])[:, None]

    def accuracy(prior):
        offsets = fit_offsets(biased, np.array(prior))
        return (ensemble(biased, offsets).argmax(axis=1) == labels).mean()

    assert accuracy((0.9, 0.1)) > accuracy((0.5, 0.5)) + 0.05


def test_offsets_are_centred_and_vanish_where_nothing_is_to_do():
    scores = np.log([[0.7, 0.2, 0.1], [0.1, 0.7, 0.2], [0.2, 0.1, 0.7]])
    uniform = np.full((3,), 1 / 3)
    np.testing.assert_allclose(fit_offset(scores, uniform), 0, atol=1e-6)
    offset = fit_offset(scores + [0.3, -1.0, 2.0], uniform)
    np.testing.assert_allclose(offset, np.array([-0.3, 1.0, -2.0]) + 1.3 / 3, atol=1e-4)


def test_an_ensemble_averages_log_odds():
    scores = np.log([[[0.8, 0.2], [0.5, 0.5]]])  # log odds log 4 and 0
    (got,) = np.exp(ensemble(scores, None))
    np.testing.assert_allclose(got, [2 / 3, 1 / 3], rtol=1e-5)
    (shifted,) = np.exp(ensemble(scores, np.array([[0.0, np.log(4)], [0.0, 0.0]])))
    np.testing.assert_allclose(shifted, [0.5, 0.5], rtol=1e-5)
