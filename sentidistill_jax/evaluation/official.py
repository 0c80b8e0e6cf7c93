"""The stable surface of the SentiBench scorer: five functions that names and data go through.

Everything that compares this scorer with the official one, or with stored predictions, uses
this module; what lies below it may change. Documented in docs/fidelity.md.
"""

import collections
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Num

from sentidistill_jax.evaluation import extract, gold, metrics, parsing, prompts, sentiment_graph
from sentidistill_jax.evaluation.data import Dataset, load_dataset
from sentidistill_jax.evaluation.options import OFFICIAL, ScoringOptions
from sentidistill_jax.evaluation.parsing import OpenerAnswer, ParsedAnswer, ParseStatus
from sentidistill_jax.evaluation.significance import Statistic
from sentidistill_jax.evaluation.table import RunResult, Table, aggregate
from sentidistill_jax.evaluation.tasks import get_task

__all__ = [
    "OFFICIAL",
    "RunResult",
    "ScoringOptions",
    "Table",
    "aggregate",
    "build_prompt",
    "extract_answer",
    "parse_answer",
    "score",
    "sentence_counts",
]

DataDir = str | os.PathLike[str] | None
Predictions = str | Sequence[int] | Sequence[str] | Num[np.ndarray, "sentences"]


def build_prompt(dataset: str, index: int, seed: int, k: int, data_dir: DataDir = None) -> str:
    """Returns the prompt of a test item.

    Args:
      dataset: Dataset name, e.g. `sc/imdb`.
      index: Position in the test split, from 0.
      seed: Seed of the demonstrations.
      k: Demonstrations in the prompt.
      data_dir: Folder of SentiBench; SENTIBENCH_DIR if None.

    Returns:
      The prompt, ending in `Label:`.
    """
    return prompts.build_prompt(load_dataset(dataset, data_dir), index, seed, k)


def extract_answer(dataset: str, generation: str, options: ScoringOptions = OFFICIAL) -> str:
    """Returns the answer in a generated continuation.

    Args:
      dataset: Name of a fine-grained dataset.
      generation: The text after the prompt, decoded without special tokens.
      options: Deviations from the reference.

    Returns:
      The answer, possibly empty.

    Raises:
      ValueError: If the dataset is a label task, whose generations are never read (Q13).
    """
    if get_task(dataset).label_words:
        raise ValueError(
            f"{dataset} is a label task: its generations are never read, pass the argmax over "
            "the label words' scores to `score`."
        )
    return extract.extract_answer(generation, lenient=options.lenient_parsing)


def parse_answer(
    dataset: str, answer: str, sentence: str, options: ScoringOptions = OFFICIAL
) -> ParsedAnswer:
    """Parses an extracted answer; never raises on what a model wrote.

    Args:
      dataset: Name of a fine-grained dataset.
      answer: What `extract_answer` returned.
      sentence: The test sentence.
      options: Deviations from the reference.

    Returns:
      `items` that count as predictions, `status` and `num_dropped`; an `OpenerAnswer` for
      absa/opener, whose `opinions` are what is scored.

    Raises:
      ValueError: If the dataset is a label task.
    """
    return parsing.parse_answer(get_task(dataset), answer, sentence, options)


def score(
    dataset: str,
    predictions: Predictions,
    data_dir: DataDir = None,
    options: ScoringOptions = OFFICIAL,
) -> dict[str, float]:
    """Scores the predictions for a whole test split.

    Args:
      dataset: Dataset name.
      predictions: In test order. Label tasks: label indices, as integers or a string of digits.
        Fine-grained tasks: extracted answers.
      data_dir: Folder of SentiBench; SENTIBENCH_DIR if None.
      options: Deviations from the reference.

    Returns:
      Label tasks: `f1`, `accuracy`. Fine-grained tasks: `f1`, `precision`, `recall`, the counts
      behind them (`n_pred`, `n_gold`; without opener `pred_hits`, `gold_hits`), the number of
      answers of each parse status (`answers_ok`, ...) and `tuples_dropped`.

    Raises:
      ValueError: If the number of predictions is not that of the test items.
    """
    data = load_dataset(dataset, data_dir)
    if data.task.label_words:
        return _as_floats(metrics.label_scores(_label_counts(data, predictions).sum(axis=0)))
    answers = _parse(data, predictions, options)
    totals = _answer_counts(data, answers, options).sum(axis=0)
    if data.task.metric == "sentiment_graph_f1":
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
    dataset: str,
    predictions: Predictions,
    data_dir: DataDir = None,
    options: ScoringOptions = OFFICIAL,
) -> tuple[Num[np.ndarray, "sentences cells"], Statistic]:
    """Returns what `significance.py` resamples: per-sentence counts and the score they give.

    Args:
      dataset: Dataset name.
      predictions: As for `score`.
      data_dir: Folder of SentiBench; SENTIBENCH_DIR if None.
      options: Deviations from the reference.

    Returns:
      The counts, and the function from their sum to the scores.

    Raises:
      ValueError: If the number of predictions is not that of the test items.
    """
    data = load_dataset(dataset, data_dir)
    if data.task.label_words:
        return _label_counts(data, predictions), metrics.label_scores
    counts = _answer_counts(data, _parse(data, predictions, options), options)
    graph = data.task.metric == "sentiment_graph_f1"
    return counts, sentiment_graph.graph_scores if graph else metrics.tuple_scores


def _label_counts(data: Dataset, predictions: Predictions) -> np.ndarray:
    _check_length(data, predictions)
    predicted = np.array([int(label) for label in predictions])
    expected = np.array([gold.gold_label_index(data.task, item) for item in data.test])
    return metrics.label_counts(expected, predicted, len(data.task.labels))


def _parse(data: Dataset, predictions: Predictions, options: ScoringOptions) -> list[ParsedAnswer]:
    _check_length(data, predictions)
    return [
        parsing.parse_answer(data.task, str(answer), item["sentence"], options)
        for answer, item in zip(predictions, data.test, strict=True)
    ]


def _answer_counts(
    data: Dataset, answers: list[ParsedAnswer], options: ScoringOptions
) -> np.ndarray:
    if data.task.metric == "sentiment_graph_f1":
        return sentiment_graph.graph_counts(
            [item["sentence"] for item in data.test],
            [gold.gold_opinions(item) for item in data.test],
            [answer.opinions for answer in answers if isinstance(answer, OpenerAnswer)],
            strict=options.strict_opener,
        )
    expected = [gold.label_sequence(data.task, item) for item in data.test]
    if options.strip_gold:
        expected = [[tuple(map(str.strip, fields)) for fields in one] for one in expected]
    return metrics.tuple_counts(
        expected, [answer.items for answer in answers], set_counting=options.set_counting
    )


def _check_length(data: Dataset, predictions: Predictions) -> None:
    if len(predictions) != len(data.test):
        raise ValueError(
            f"{len(predictions)} predictions for {data.task.name}, expected {len(data.test)}: "
            "one per test item, in file order."
        )


def _as_floats(scores: metrics.Scores) -> dict[str, float]:
    return {name: float(value) for name, value in scores.items()}
