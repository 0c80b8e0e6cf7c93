"""Scores of label tasks and of pair and quad tasks, in NumPy.

Every score is a function of per-sentence counts summed over sentences. That makes sums over
hosts exact and lets `significance.py` resample any task with one matrix product.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from numpy.typing import ArrayLike

from sentidistill_jax.evaluation.answers import ScoringOptions

Scores = dict[str, np.ndarray | np.float64]  # in [0, 1]; `f1` comes first
Statistic = Callable[[np.ndarray], Scores]  # from summed counts, e.g. `label_scores`
_Items = Sequence[Mapping[str, Any]]  # as `task.Item`


@dataclasses.dataclass(frozen=True)
class Metric:
    """A score of one task: how a sentence is counted, and what the sum of the counts gives."""

    name: str  # in scores.json
    # (items, gold, predicted, options) -> counts [sentences, cells]. Gold is what `Task.gold` says
    # of each item; predicted are label indices, or `ParsedAnswer`s.
    count: Callable[[_Items, Sequence[Any], Sequence[Any], ScoringOptions], np.ndarray]
    scores: Statistic
    cells: tuple[str, ...] = ()  # names of the cells; "" for one that is not reported


def macro_f1(num_labels: int) -> Metric:
    """Returns the metric of a label task."""

    def count(
        items: _Items, gold: Sequence[int], predicted: Sequence[int], options: ScoringOptions
    ) -> np.ndarray:
        del items, options
        return label_counts(np.array(gold), np.array(predicted), num_labels)

    return Metric("macro_f1", count, label_scores)


def label_counts(
    gold: Int[np.ndarray, "sentences"], predicted: Int[np.ndarray, "predictions"], num_labels: int
) -> Int[np.ndarray, "sentences cells"]:
    """Returns each sentence's contribution to the confusion matrix.

    Args:
      gold: Label indices.
      predicted: Label indices.
      num_labels: Size of the label set.

    Returns:
      One-hot rows over the num_labels ** 2 cells of the confusion matrix, gold label major.

    Raises:
      ValueError: If the lengths differ or an index is not in [0, num_labels).
    """
    if gold.shape != predicted.shape:
        raise ValueError(f"gold has shape {gold.shape}, predicted {predicted.shape}; align them.")
    for name, values in (("gold", gold), ("predicted", predicted)):
        if np.any((values < 0) | (values >= num_labels)):
            raise ValueError(
                f"{name} has label indices from {values.min()} to {values.max()}, "
                f"expected 0 to {num_labels - 1}."
            )
    return np.eye(num_labels**2, dtype=np.int64)[gold * num_labels + predicted]


def label_scores(totals: Num[np.ndarray, "*batch cells"]) -> Scores:
    """Macro-F1 over the labels that occur in gold or predictions, and accuracy.

    Args:
      totals: Confusion matrices, flattened as by `label_counts`.

    Returns:
      `f1` and `accuracy`, each of shape [*batch]; 0 where undefined.
    """
    num_labels = round(totals.shape[-1] ** 0.5)
    confusion = totals.reshape(*totals.shape[:-1], num_labels, num_labels)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    occurrences = confusion.sum(axis=-1) + confusion.sum(axis=-2)  # 2 TP + FP + FN
    present = occurrences > 0
    f1 = _ratio(2 * hits, occurrences)
    return {
        "f1": _ratio(f1.sum(axis=-1), present.sum(axis=-1)),
        "accuracy": _ratio(hits.sum(axis=-1), totals.sum(axis=-1)),
    }


def tuple_counts(
    gold: Sequence[Sequence[object]],
    predicted: Sequence[Sequence[object]],
    *,
    set_counting: bool = False,
) -> Int[np.ndarray, "sentences 4"]:
    """Returns n_pred, pred_hits, n_gold and gold_hits of each sentence.

    An item is a hit if the other side contains it: every copy of a right answer counts, and
    whatever the parser returned counts as a prediction.

    Args:
      gold: Gold tuples of each sentence.
      predicted: Parsed items of each sentence, junk included.
      set_counting: Counts distinct items only (docs/fidelity.md, Q9).

    Returns:
      The four counts, in this order.

    Raises:
      ValueError: If the lengths differ.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold sentences but {len(predicted)} predicted; align them.")
    counts = np.zeros((len(gold), 4), np.int64)
    for row, wanted, found in zip(counts, gold, predicted, strict=True):
        if set_counting:
            wanted, found = _distinct(wanted), _distinct(found)
        row[:] = (
            len(found),
            sum(item in wanted for item in found),
            len(wanted),
            sum(item in found for item in wanted),
        )
    return counts


def tuple_scores(totals: Num[np.ndarray, "*batch 4"]) -> Scores:
    """Micro-F1, precision and recall from summed `tuple_counts`.

    Args:
      totals: n_pred, pred_hits, n_gold, gold_hits.

    Returns:
      `f1`, `precision` and `recall`, each of shape [*batch]. Precision is 1 where nothing was
      predicted (docs/fidelity.md, Q10), recall is 1 where there is no gold.
    """
    n_pred, pred_hits, n_gold, gold_hits = np.moveaxis(totals, -1, 0)
    precision = _ratio(pred_hits, n_pred, empty=1.0)
    recall = _ratio(gold_hits, n_gold, empty=1.0)
    f1 = _ratio(2 * precision * recall, precision + recall)
    return {"f1": f1, "precision": precision, "recall": recall}


def _count_answers(
    items: _Items, gold: Sequence[Any], answers: Sequence[Any], options: ScoringOptions
) -> np.ndarray:
    del items
    if options.strip_gold:
        gold = [[tuple(map(str.strip, fields)) for fields in one] for one in gold]
    return tuple_counts(
        gold, [answer.items for answer in answers], set_counting=options.set_counting
    )


MICRO_F1 = Metric(
    "micro_f1", _count_answers, tuple_scores, ("n_pred", "pred_hits", "n_gold", "gold_hits")
)


def area_under_curve(
    scores: Float[np.ndarray, " sentences"], is_positive: Bool[np.ndarray, " sentences"]
) -> float | None:
    """Area under the ROC curve: how often a positive sentence scores above a negative one.

    An equal score counts one half. No constant that is added to the scores changes it. None where
    a class is empty.
    """
    positive, negative = np.sort(scores[is_positive]), scores[~is_positive]
    if not positive.size or not negative.size:
        return None
    not_above, below = (np.searchsorted(positive, negative, side) for side in ("right", "left"))
    return 1 - float(np.mean(not_above + below)) / (2 * positive.size)


def _distinct(items: Iterable[object]) -> list[object]:
    return list({_identity(item): item for item in items}.values())


def _identity(item: object) -> object:
    try:
        hash(item)
    except TypeError:  # a list or dict: junk, never equal to a gold tuple; each counts for itself
        return object()
    return item


def _ratio(numerator: ArrayLike, denominator: ArrayLike, empty: float = 0.0) -> np.ndarray:
    result = np.full(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)), empty)
    return np.divide(numerator, denominator, out=result, where=np.not_equal(denominator, 0))
