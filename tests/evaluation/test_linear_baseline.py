"""The linear baseline on texts whose words decide their labels."""

import numpy as np
import pytest

from sentidistill_jax.evaluation.linear_baseline import fit_linear

TEXTS = ["a fine film", "fine acting", "a dull film", "dull acting", "fine fine", "so dull"]
LABELS = np.array([0, 0, 1, 1, 0, 1])


def test_the_word_that_decides_decides_new_texts():
    logprobs = fit_linear(TEXTS, LABELS, 2)(["fine music", "dull music"])
    assert logprobs.argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(np.exp(logprobs).sum(axis=1), 1)


def test_a_label_without_texts_is_refused():
    with pytest.raises(ValueError, match="no text has label 2"):
        fit_linear(TEXTS, LABELS, 3)
