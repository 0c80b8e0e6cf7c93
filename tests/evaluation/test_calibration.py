"""Label bias taken out of scores, without any label."""

import numpy as np

from sentidistill_jax.evaluation import calibration


def test_contextual_calibration_undoes_what_the_prompt_says_of_nothing():
    logprobs = np.log([[0.6, 0.2], [0.3, 0.3]])
    free = np.log([[0.6, 0.2], [0.2, 0.4]])
    found = np.exp(calibration.contextual(logprobs, free))
    np.testing.assert_allclose(found, [[0.5, 0.5], [2 / 3, 1 / 3]])


def test_batch_calibration_divides_by_the_mean_prediction():
    probs = np.array([[0.9, 0.1], [0.7, 0.3]])
    found = np.exp(calibration.batch(np.log(3 * probs)))
    expected = probs / [0.8, 0.2]
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True))
