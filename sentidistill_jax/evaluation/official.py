"""The stable surface of the SentiBench scorer: five functions that names and data go through.

Everything that compares this scorer with the official one, or with stored predictions, uses
this module; what lies below it may change. Documented in docs/fidelity.md.
"""

import os

import numpy as np
from jaxtyping import Num

from sentidistill_jax.evaluation import extract, parsing, prompts, scoring
from sentidistill_jax.evaluation.data import load_dataset
from sentidistill_jax.evaluation.options import OFFICIAL, ScoringOptions
from sentidistill_jax.evaluation.parsing import ParsedAnswer
from sentidistill_jax.evaluation.scoring import Predictions
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
      ValueError: If the number of predictions is not that of the test items, or one for a label
        task is no label index.
    """
    data = load_dataset(dataset, data_dir)
    return scoring.score(data.task, data.test, predictions, options)


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
      ValueError: If the number of predictions is not that of the test items, or one for a label
        task is no label index.
    """
    data = load_dataset(dataset, data_dir)
    return scoring.sentence_counts(data.task, data.test, predictions, options)
