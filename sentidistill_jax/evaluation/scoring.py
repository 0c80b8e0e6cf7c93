"""Scores of any number of a task's items: predictions in, per-sentence counts and F1 out."""

import collections
from collections.abc import Sequence

import numpy as np
from jaxtyping import Num

from sentidistill_jax.evaluation import gold, metrics, parsing, sentiment_graph
from sentidistill_jax.evaluation.data import Item
from sentidistill_jax.evaluation.options import OFFICIAL, ScoringOptions
from sentidistill_jax.evaluation.parsing import OpenerAnswer, ParsedAnswer, ParseStatus
from sentidistill_jax.evaluation.significance import Statistic
from sentidistill_jax.evaluation.tasks import Task

Predictions = str | Sequence[int] | Sequence[str] | Num[np.ndarray, "sentences"]


def score(
    task: Task,
    items: Sequence[Item],
    predictions: Predictions,
    options: ScoringOptions = OFFICIAL,
) -> dict[str, float]:
    """Scores predictions; see `official.score`, which is this over a whole test split.

    Args:
      task: The task.
      items: Items of its data.
      predictions: One per item: label indices, or extracted answers.
      options: Deviations from the reference.

    Returns:
      `f1` first, then what goes with it.

    Raises:
      ValueError: If the number of predictions is not that of the items, or one is no label index.
    """
    if task.label_words:
        return _as_floats(metrics.label_scores(_label_counts(task, items, predictions).sum(axis=0)))
    answers = _parse(task, items, predictions, options)
    totals = _answer_counts(task, items, answers, options).sum(axis=0)
    if task.metric == "sentiment_graph_f1":
        result = _as_floats(sentiment_graph.graph_scores(totals))
        result |= {"n_pred": int(totals[1]), "n_gold": int(totals[3])}
    else:
        result = _as_floats(metrics.tuple_scores(totals))
        names = ("n_pred", "pred_hits", "n_gold", "gold_hits")
        result |= dict(zip(names, totals.tolist(), strict=True))
    occurrences = collections.Counter(answer.status for answer in answers)
    result |= {f"answers_{status.value}": occurrences[status] for status in ParseStatus}
    return result | {"tuples_dropped": sum(answer.num_dropped for answer in answers)}


def sentence_counts(
    task: Task,
    items: Sequence[Item],
    predictions: Predictions,
    options: ScoringOptions = OFFICIAL,
) -> tuple[Num[np.ndarray, "sentences cells"], Statistic]:
    """Returns what `significance.py` resamples: per-sentence counts and the score they give.

    Args:
      task: The task.
      items: Items of its data.
      predictions: As for `score`.
      options: Deviations from the reference.

    Returns:
      The counts, and the function from their sum to the scores.

    Raises:
      ValueError: If the number of predictions is not that of the items, or one is no label index.
    """
    if task.label_words:
        return _label_counts(task, items, predictions), metrics.label_scores
    answers = _parse(task, items, predictions, options)
    counts = _answer_counts(task, items, answers, options)
    graph = task.metric == "sentiment_graph_f1"
    return counts, sentiment_graph.graph_scores if graph else metrics.tuple_scores


def _label_counts(task: Task, items: Sequence[Item], predictions: Predictions) -> np.ndarray:
    _check_length(task, items, predictions)
    indices = {as_given: at for at in range(len(task.labels)) for as_given in (at, str(at))}
    for label in predictions:
        if label not in indices:
            raise ValueError(
                f"{label!r} is no prediction for {task.name}, expected an index into"
                f" {list(task.labels)}, as an integer or a digit."
            )
    predicted = np.array([indices[label] for label in predictions])
    expected = np.array([gold.gold_label_index(task, item) for item in items])
    return metrics.label_counts(expected, predicted, len(task.labels))


def _parse(
    task: Task, items: Sequence[Item], predictions: Predictions, options: ScoringOptions
) -> list[ParsedAnswer]:
    _check_length(task, items, predictions)
    return [
        parsing.parse_answer(task, str(answer), item["sentence"], options)
        for answer, item in zip(predictions, items, strict=True)
    ]


def _answer_counts(
    task: Task, items: Sequence[Item], answers: list[ParsedAnswer], options: ScoringOptions
) -> np.ndarray:
    if task.metric == "sentiment_graph_f1":
        return sentiment_graph.graph_counts(
            [item["sentence"] for item in items],
            [gold.gold_opinions(item) for item in items],
            [answer.opinions for answer in answers if isinstance(answer, OpenerAnswer)],
            strict=options.strict_opener,
        )
    expected = [gold.label_sequence(task, item) for item in items]
    if options.strip_gold:
        expected = [[tuple(map(str.strip, fields)) for fields in one] for one in expected]
    return metrics.tuple_counts(
        expected, [answer.items for answer in answers], set_counting=options.set_counting
    )


def _check_length(task: Task, items: Sequence[Item], predictions: Predictions) -> None:
    if len(predictions) != len(items):
        raise ValueError(
            f"{len(predictions)} predictions for {task.name}, expected {len(items)}: "
            "one per test item, in file order."
        )


def _as_floats(scores: metrics.Scores) -> dict[str, float]:
    return {name: float(value) for name, value in scores.items()}
