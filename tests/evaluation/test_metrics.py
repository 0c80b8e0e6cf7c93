import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentidistill_jax.evaluation.metrics import (
    area_under_curve,
    label_counts,
    label_scores,
    tuple_counts,
    tuple_scores,
)


def _label_scores(gold, predicted, num_labels):
    counts = label_counts(np.array(gold), np.array(predicted), num_labels)
    return label_scores(counts.sum(axis=0))


def test_label_counts_are_one_hot_cells_of_the_confusion_matrix():
    counts = label_counts(np.array([0, 1, 1]), np.array([0, 0, 1]), 2)
    np.testing.assert_array_equal(counts, [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def test_macro_f1_by_hand():
    # Label 0: TP 2, FP 1, FN 0 -> 4/5. Label 1: TP 1, FP 0, FN 2 -> 1/2. Label 2: FP 1 -> 0.
    scores = _label_scores([0, 0, 1, 1, 1], [0, 0, 1, 0, 2], 3)
    assert scores["f1"] == pytest.approx((4 / 5 + 1 / 2 + 0) / 3, abs=1e-15)
    assert scores["accuracy"] == pytest.approx(3 / 5, abs=1e-15)


def test_macro_f1_ignores_labels_that_never_occur():
    assert _label_scores([0, 1], [0, 1], 4)["f1"] == 1.0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_macro_f1_equals_the_textbook_loop(pairs):
    f1 = []
    for label in {label for pair in pairs for label in pair}:
        hits = sum(pair == (label, label) for pair in pairs)
        wrong = sum((gold == label) != (predicted == label) for gold, predicted in pairs)
        f1.append(2 * hits / (2 * hits + wrong))
    gold, predicted = zip(*pairs, strict=True)
    scores = _label_scores(gold, predicted, 4)
    assert scores["f1"] == pytest.approx(sum(f1) / len(f1), abs=1e-12)


def test_scores_of_a_batch_are_those_of_its_members():
    totals = np.array([[3, 1, 2, 4], [0, 0, 0, 7]])
    batch = label_scores(totals)["f1"]
    np.testing.assert_array_equal(batch, [label_scores(one)["f1"] for one in totals])
    batch = tuple_scores(totals[:, [3, 0, 2, 1]])["f1"]
    np.testing.assert_array_equal(batch, [tuple_scores(t[[3, 0, 2, 1]])["f1"] for t in totals])


def test_label_counts_check_their_input():
    with pytest.raises(ValueError, match=r"gold has shape \(1,\), predicted \(2,\)"):
        label_counts(np.array([0]), np.array([0, 1]), 2)
    with pytest.raises(ValueError, match=r"predicted has label indices from 0 to 2, expected 0 to"):
        label_counts(np.array([0, 1]), np.array([0, 2]), 2)


FOOD, WINE = ("food", "positive"), ("wine", "negative")


def test_tuple_counts_are_membership_not_sets():
    gold = [[FOOD, WINE, WINE], [], [FOOD]]
    predicted = [(FOOD, FOOD, False), (["food", "positive"],), ()]
    np.testing.assert_array_equal(
        tuple_counts(gold, predicted), [[3, 2, 3, 1], [1, 0, 0, 0], [0, 0, 1, 0]]
    )


def test_hits_do_not_cross_sentences():
    assert tuple_counts([[FOOD], []], [(), (FOOD,)])[:, 1].sum() == 0


def test_set_counting_counts_distinct_items_and_each_unhashable_one():
    gold, predicted = [[FOOD, FOOD, WINE]], [(FOOD, FOOD, False, False, [], [])]
    counts = tuple_counts(gold, predicted, set_counting=True)
    np.testing.assert_array_equal(counts, [[4, 1, 2, 1]])


def test_micro_f1_by_hand():
    scores = tuple_scores(np.array([4, 3, 5, 2]))
    assert scores["precision"] == 3 / 4 and scores["recall"] == 2 / 5
    assert scores["f1"] == pytest.approx(2 * 0.75 * 0.4 / 1.15, abs=1e-15)


def test_no_prediction_has_precision_one_and_f1_zero():
    scores = tuple_scores(np.array([0, 0, 5, 0]))
    assert (scores["precision"], scores["recall"], scores["f1"]) == (1, 0, 0)


def test_tuple_counts_check_their_input():
    with pytest.raises(ValueError, match="1 gold sentences but 0 predicted"):
        tuple_counts([[FOOD]], [])


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=20))
def test_area_under_the_curve_counts_pairs_in_the_right_order(sentences):
    scores = np.array([score for score, _ in sentences], np.float64)
    is_positive = np.array([positive for _, positive in sentences])
    pairs = [
        (1.0 if above > below else 0.5 if above == below else 0.0)
        for above in scores[is_positive]
        for below in scores[~is_positive]
    ]
    found = area_under_curve(scores, is_positive)
    assert found == (pytest.approx(np.mean(pairs)) if pairs else None)
    assert area_under_curve(scores + 7, is_positive) == found
