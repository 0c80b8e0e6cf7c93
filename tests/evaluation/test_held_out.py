"""Scores of held-out texts: what is of the likeliest label, and what is of the order alone."""

import numpy as np
import pytest

from sentidistill_jax.evaluation.held_out import held_out_lines, held_out_scores

LABELS = ("positive", "negative")
GOLD = np.array([0, 0, 1, 1])


def _logprobs(margins):
    margins = np.array(margins)
    return np.stack([-np.logaddexp(0, -margins), -np.logaddexp(0, margins)], axis=1)


def test_a_bias_towards_a_label_costs_f1_and_leaves_the_auc():
    good = held_out_scores(GOLD, _logprobs([2.0, 1.0, -1.0, -2.0]), LABELS)
    biased = held_out_scores(GOLD, _logprobs([-2.0, -3.0, -5.0, -6.0]), LABELS)
    assert (good["f1"], good["auc"]) == (1.0, 1.0)
    assert biased["auc"] == 1.0
    assert biased["f1"] == pytest.approx(1 / 3)  # always negative: F1 of 2/3 and of 0
    assert biased["confusion"] == [[0, 2], [0, 2]]


def test_one_class_has_no_auc():
    scores = held_out_scores(GOLD[:2], _logprobs([1.0, -1.0]), LABELS)
    assert scores["auc"] is None and scores["accuracy"] == 0.5


def test_lines_name_the_likeliest_label():
    lines = held_out_lines("held_out/reviews", ["a", "b"], GOLD[1:3], _logprobs([-1, -2]), LABELS)
    assert [(line["id"], line["gold"], line["predicted"]) for line in lines] == [
        ("a", "positive", "negative"), ("b", "negative", "negative"),
    ]  # fmt: skip
