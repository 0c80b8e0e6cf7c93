"""From predictions of a data set under some seeds to its entry in scores.json."""

import collections
import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from sentidistill_jax.evaluation import gold, scoring
from sentidistill_jax.evaluation.data import Item
from sentidistill_jax.evaluation.extract import extract_answer
from sentidistill_jax.evaluation.options import OFFICIAL, ScoringOptions
from sentidistill_jax.evaluation.parsing import OpenerAnswer, ParseStatus, parse_answer
from sentidistill_jax.evaluation.scoring import Predictions
from sentidistill_jax.evaluation.significance import Statistic, bootstrap_interval
from sentidistill_jax.evaluation.table import RunResult, aggregate
from sentidistill_jax.evaluation.tasks import TASKS, Task
from sentidistill_jax.language_model import Completion

SCORES_VERSION = 2  # of scores.json and predictions.jsonl

Line = dict[str, Any]  # one line of predictions.jsonl, see docs/data_formats.md

# Other ways to score the answers of fine-grained tasks.
ANSWER_VARIANTS = {
    "lenient": ScoringOptions(lenient_parsing=True),
    "repaired": ScoringOptions(
        **{field.name: True for field in dataclasses.fields(ScoringOptions)}
    ),
}


def set_name(dataset: str) -> str:
    """How a data set is called among the sets of scores.json."""
    return f"sentibench/{dataset}"


def label_lines(
    task: Task,
    items: Sequence[Item],
    seed: int,
    logprobs: Float[np.ndarray, "items labels"],
    calibrated: Mapping[str, Float[np.ndarray, "items labels"]],
) -> list[Line]:
    """Predictions of a label task; ties go to the first label, as in the reference."""
    lines = []
    for index, (item, row) in enumerate(zip(items, logprobs, strict=True)):
        line = {
            "set": set_name(task.name),
            "id": str(index),
            "seed": seed,
            "gold": task.labels[gold.gold_label_index(task, item)],
            "predicted": task.labels[int(row.argmax())],
            "logprobs": [round(float(value), 5) for value in row],
        }
        if calibrated:
            line["calibrated"] = {
                name: task.labels[int(scores[index].argmax())]
                for name, scores in calibrated.items()
            }
        lines.append(line)
    return lines


def answer_lines(
    task: Task,
    items: Sequence[Item],
    seed: int,
    completions: Sequence[Completion],
    answers: Sequence[str],
) -> list[Line]:
    """Predictions of a fine-grained task."""
    lines = []
    for index, item in enumerate(items):
        parsed = parse_answer(task, answers[index], item["sentence"])
        found = parsed.raw_tuples if isinstance(parsed, OpenerAnswer) else parsed.items
        lines.append(
            {
                "set": set_name(task.name),
                "id": str(index),
                "seed": seed,
                "gold": [list(fields) for fields in gold.label_sequence(task, item)],
                "predicted": [_readable(one) for one in found],
                "generation": completions[index].text,
                "answer": answers[index],
                "status": parsed.status.value,
                "finished": completions[index].finished,
            }
        )
    return lines


def _readable(item: object) -> list[str] | str:
    if isinstance(item, tuple) and all(isinstance(field, str) for field in item):
        return list(item)
    try:
        return repr(item)
    except ValueError:  # Python reads hexadecimal ints of any size but does not print them
        return f"a {type(item).__name__} with an int of thousands of digits"


def summarise(
    task: Task,
    items: Sequence[Item],
    by_seed: Mapping[int, Sequence[Line]],
    prompts: Mapping[int, Mapping[str, Any]],
    *,
    k_shot: int,
) -> dict[str, Any]:
    """The entry of a data set in scores.json.

    Args:
      task: The task.
      items: The scored items of its test split.
      by_seed: Predictions of each seed, in the order of the items.
      prompts: Report on the prompts of each seed.
      k_shot: Demonstrations per prompt.

    Returns:
      See docs/data_formats.md.
    """
    seeds: dict[int, dict[str, Any]] = {
        seed: _of_seed(task, items, lines) | {"prompts": dict(prompts[seed])}
        for seed, lines in by_seed.items()
    }
    f1 = [float(of_seed["f1"]) for of_seed in seeds.values()]
    lists = list(by_seed.values())
    entry: dict[str, Any] = {
        "metric": task.metric,
        "category": task.category,
        "k_shot": k_shot,
        "examples": len(items),
        "test_examples": task.test_size,
        "deviation": statistics.stdev(f1) if len(f1) > 1 else None,
        "seeds": {str(seed): of_seed for seed, of_seed in seeds.items()},
        "variants": {
            name: _scores(task, items, runs, options)
            for name, (runs, options) in _variants(task, lists).items()
        },
    }
    entry |= _scores(task, items, [predictions(task, lines) for lines in lists])
    if task.label_words:
        counts = [
            scoring.sentence_counts(task, items, predictions(task, lines))[0] for lines in lists
        ]
        size = len(task.labels)
        confusion = np.sum(counts, axis=(0, 1)).reshape(size, size)
        entry |= {"labels": list(task.labels), "confusion": confusion.tolist()}
        entry["macro_f1"] = entry["f1"]
    return entry


def _of_seed(task: Task, items: Sequence[Item], lines: Sequence[Line]) -> dict[str, Any]:
    predicted = predictions(task, lines)
    entry = _scores(task, items, [predicted])
    if task.label_words:
        return entry
    scores = scoring.score(task, items, predicted)
    statuses = collections.Counter(line["status"] for line in lines)
    return entry | {
        "n_pred": int(scores["n_pred"]),
        "n_gold": int(scores["n_gold"]),
        "answers": {status.value: statuses[status.value] for status in ParseStatus},
        "tuples_dropped": int(scores["tuples_dropped"]),
        "unfinished": sum(line["finished"] is False for line in lines),
    }


def predictions(task: Task, lines: Sequence[Line]) -> Predictions:
    """What `scoring.score` takes, from lines of predictions.jsonl."""
    if task.label_words:
        return [task.labels.index(line["predicted"]) for line in lines]
    return [line["answer"] for line in lines]


def _variants(
    task: Task, lists: Sequence[Sequence[Line]]
) -> dict[str, tuple[list[Predictions], ScoringOptions]]:
    if task.label_words:
        names = lists[0][0].get("calibrated", {})
        return {
            name: (
                [
                    [task.labels.index(line["calibrated"][name]) for line in lines]
                    for lines in lists
                ],
                OFFICIAL,
            )
            for name in names
        }
    variants: dict[str, tuple[list[Predictions], ScoringOptions]] = {}
    for name, options in ANSWER_VARIANTS.items():
        answers: list[Predictions] = [
            [extract_answer(line["generation"], lenient=options.lenient_parsing) for line in lines]
            for lines in lists
        ]
        variants[name] = (answers, options)
    return variants


def _scores(
    task: Task,
    items: Sequence[Item],
    runs: Sequence[Predictions],
    options: ScoringOptions = OFFICIAL,
) -> dict[str, Any]:
    """Means over runs, and the bootstrap interval of the mean F1."""
    counted = [scoring.sentence_counts(task, items, run, options) for run in runs]
    statistic = counted[0][1]
    scores = [statistic(counts.sum(axis=0)) for counts, _ in counted]
    interval = bootstrap_interval(
        np.concatenate([counts for counts, _ in counted], axis=1),
        mean_of(statistic, len(runs)),
        seed=0,
    )
    return {name: float(np.mean([one[name] for one in scores])) for name in scores[0]} | {
        "interval_95": [interval.low, interval.high]
    }


def mean_of(statistic: Statistic, runs: int) -> Statistic:
    """The statistic of several runs whose counts lie side by side: a sentence is drawn in all."""

    def mean(totals: np.ndarray) -> dict[str, Any]:
        by_run = totals.reshape(*totals.shape[:-1], runs, -1)
        return {"f1": statistic(by_run)["f1"].mean(axis=-1)}

    return mean


def benchmark_summary(entries: Mapping[str, Mapping[str, Any]], k_shot: int) -> dict[str, Any]:
    """Average and category means over the twelve data sets; a missing one counts as 0.

    Args:
      entries: Data set -> its entry in scores.json.
      k_shot: Demonstrations per prompt.
    """
    (row,) = aggregate(run_results("", "", entries)).rows
    return {
        "k_shot": k_shot,
        "seeds": list(row.seeds),
        "complete": not row.missing
        and all(entry["examples"] == entry["test_examples"] for entry in entries.values()),
        "average": row.average / 100,
        "deviation": None if row.average_deviation is None else row.average_deviation / 100,
        "categories": {name: value / 100 for name, value in row.categories.items()},
        "missing": list(row.missing),
    }


def run_results(
    experiment: str, model: str, entries: Mapping[str, Mapping[str, Any]]
) -> list[RunResult]:
    """What `table.aggregate` takes, from the entries of data sets in scores.json."""
    return [
        RunResult(
            experiment,
            model,
            dataset,
            int(seed),
            entry["k_shot"],
            of_seed["f1"],
            of_seed.get("accuracy", 0.0),
        )  # fmt: skip
        for dataset, entry in entries.items()
        if dataset in TASKS
        for seed, of_seed in entry["seeds"].items()
    ]
