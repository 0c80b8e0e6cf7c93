"""The scorer: predictions for items of a task in, per-sentence counts and scores out.

What compares this scorer with the official one, or with stored predictions, goes through `score`,
`sentence_counts`, `Benchmark.load`, the methods of `Dataset` and `Task`, and `table.aggregate`; see
docs/fidelity.md.
"""

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Num

from sentidistill_jax.evaluation.answers import OFFICIAL, ParseStatus, ScoringOptions
from sentidistill_jax.evaluation.metrics import Statistic
from sentidistill_jax.evaluation.task import Item, Task

# Digits, label indices or answers, one per sentence; what else comes is refused by name.
Predictions = str | Sequence[Any] | np.ndarray


def score(
    task: Task,
    items: Sequence[Item],
    predictions: Predictions,
    options: ScoringOptions = OFFICIAL,
) -> dict[str, float]:
    """Scores the predictions for some items, usually a whole test split.

    Args:
      task: The task.
      items: Items of its data.
      predictions: One per item, in order. Label tasks: label indices, as integers or a string of
        digits. Tuple tasks: extracted answers.
      options: Deviations from the reference.

    Returns:
      `f1` first. Label tasks: `accuracy`. Tuple tasks: `precision`, `recall`, the counts that the
      metric names (`n_pred`, `n_gold`, ...), the number of answers of each parse status
      (`answers_ok`, ...) and `tuples_dropped`.

    Raises:
      ValueError: If the number of predictions is not that of the items, or one for a label task is
        no label index.
    """
    predicted = _read(task, items, predictions, options)
    totals = _count(task, items, predicted, options).sum(axis=0)
    scores = {name: float(value) for name, value in task.metric.scores(totals).items()}
    cells = zip(task.metric.cells, totals, strict=False)
    scores |= {name: int(total) for name, total in cells if name}
    if task.label_words:
        return scores
    occurrences = collections.Counter(answer.status for answer in predicted)
    scores |= {f"answers_{status.value}": occurrences[status] for status in ParseStatus}
    return scores | {"tuples_dropped": sum(answer.num_dropped for answer in predicted)}


def sentence_counts(
    task: Task,
    items: Sequence[Item],
    predictions: Predictions,
    options: ScoringOptions = OFFICIAL,
) -> tuple[Num[np.ndarray, "sentences cells"], Statistic]:
    """Returns what `significance.py` resamples: per-sentence counts and the score they give.

    Arguments and errors are those of `score`.
    """
    predicted = _read(task, items, predictions, options)
    return _count(task, items, predicted, options), task.metric.scores


def _count(
    task: Task, items: Sequence[Item], predicted: Sequence[Any], options: ScoringOptions
) -> np.ndarray:
    return task.metric.count(items, [task.gold(item) for item in items], predicted, options)


def _read(
    task: Task, items: Sequence[Item], predictions: Predictions, options: ScoringOptions
) -> list[Any]:
    """Predictions as the metric takes them: label indices, or parsed answers."""
    if len(predictions) != len(items):
        raise ValueError(
            f"{len(predictions)} predictions for {task.name}, expected {len(items)}: "
            "one per test item, in file order."
        )
    if not task.label_words:
        return [
            task.parse_answer(str(answer), item["sentence"], options)
            for answer, item in zip(predictions, items, strict=True)
        ]
    indices = {as_given: at for at in range(len(task.labels)) for as_given in (at, str(at))}
    for label in predictions:
        if label not in indices:
            raise ValueError(
                f"{label!r} is no prediction for {task.name}, expected an index into"
                f" {list(task.labels)}, as an integer or a digit."
            )
    return [indices[label] for label in predictions]
