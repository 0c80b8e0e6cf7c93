"""From predictions of a data set under some seeds to its entry in scores.json."""

import collections
import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from sentidistill_jax.evaluation import scoring
from sentidistill_jax.evaluation.answers import OFFICIAL, ParseStatus, ScoringOptions
from sentidistill_jax.evaluation.benchmark import Benchmark
from sentidistill_jax.evaluation.metrics import label_counts
from sentidistill_jax.evaluation.scoring import Predictions
from sentidistill_jax.evaluation.significance import bootstrap_interval, mean_over_runs
from sentidistill_jax.evaluation.table import RunResult, aggregate
from sentidistill_jax.evaluation.task import Item, Task
from sentidistill_jax.language_model import Completion

SCORES_VERSION = 2  # of scores.json and predictions.jsonl

Line = dict[str, Any]  # one line of predictions.jsonl, see docs/data_formats.md

# Other ways to read the answers of tuple tasks.
ANSWER_VARIANTS = {
    "lenient": ScoringOptions(lenient_parsing=True),
    "repaired": ScoringOptions(
        **{field.name: True for field in dataclasses.fields(ScoringOptions)}
    ),
}


def label_lines(
    set_name: str,
    task: Task,
    items: Sequence[Item],
    seed: int,
    logprobs: Float[np.ndarray, "items labels"],
    calibrated: Mapping[str, Float[np.ndarray, "items labels"]],
) -> list[Line]:
    """Returns the predictions of a label task; ties go to the first label, as in the reference."""
    lines = []
    for index, (item, row) in enumerate(zip(items, logprobs, strict=True)):
        line = {
            "set": set_name,
            "id": str(index),
            "seed": seed,
            "gold": task.labels[task.gold(item)],
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
    set_name: str,
    task: Task,
    items: Sequence[Item],
    seed: int,
    completions: Sequence[Completion],
) -> list[Line]:
    """Returns the predictions of a tuple task."""
    lines = []
    for index, (item, completion) in enumerate(zip(items, completions, strict=True)):
        answer = task.extract_answer(completion.text)
        parsed = task.parse_answer(answer, item["sentence"])
        lines.append(
            {
                "set": set_name,
                "id": str(index),
                "seed": seed,
                "gold": [list(fields) for fields in task.gold(item)],
                "predicted": [_readable(one) for one in parsed.shown_items],
                "generation": completion.text,
                "answer": answer,
                "status": parsed.status.value,
                "finished": completion.finished,
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


def summarize(
    task: Task,
    items: Sequence[Item],
    by_seed: Mapping[int, Sequence[Line]],
    prompts: Mapping[int, Mapping[str, Any]],
    *,
    k_shot: int,
) -> dict[str, Any]:
    """Returns the entry of a data set in scores.json.

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
        "metric": task.metric.name,
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
        size = len(task.labels)
        gold = np.tile([task.gold(item) for item in items], len(lists))
        predicted = np.concatenate([predictions(task, lines) for lines in lists])
        confusion = label_counts(gold, predicted, size).sum(axis=0).reshape(size, size)
        entry |= {"labels": list(task.labels), "confusion": confusion.tolist()}
        entry[task.metric.name] = entry["f1"]
    return entry


def _of_seed(task: Task, items: Sequence[Item], lines: Sequence[Line]) -> dict[str, Any]:
    predicted = predictions(task, lines)
    entry = _scores(task, items, [predicted])
    if task.label_words:
        return entry
    scores = scoring.score(task, items, predicted)
    statuses = collections.Counter(line["status"] for line in lines)
    return entry | {
        **{name: scores[name] for name in ("n_pred", "n_gold") if name in scores},
        "answers": {status.value: statuses[status.value] for status in ParseStatus},
        "tuples_dropped": scores["tuples_dropped"],
        "unfinished": sum(line["finished"] is False for line in lines),
    }


def predictions(task: Task, lines: Sequence[Mapping[str, Any]]) -> Predictions:
    """Returns what `scoring.score` takes, from lines of predictions.jsonl."""
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
            [task.extract_answer(line["generation"], options) for line in lines] for lines in lists
        ]
        variants[name] = (answers, options)
    return variants


def _scores(
    task: Task,
    items: Sequence[Item],
    runs: Sequence[Predictions],
    options: ScoringOptions = OFFICIAL,
) -> dict[str, Any]:
    """Returns means over runs, and the bootstrap interval of the mean F1."""
    counted = [scoring.sentence_counts(task, items, run, options) for run in runs]
    statistic = counted[0][1]
    scores = [statistic(counts.sum(axis=0)) for counts, _ in counted]
    interval = bootstrap_interval(
        np.concatenate([counts for counts, _ in counted], axis=1),
        mean_over_runs(statistic, len(runs)),
        seed=0,
    )
    return {name: float(np.mean([one[name] for one in scores])) for name in scores[0]} | {
        "interval_95": [interval.low, interval.high]
    }


def benchmark_summary(
    benchmark: Benchmark, entries: Mapping[str, Mapping[str, Any]], k_shot: int
) -> dict[str, Any]:
    """Returns the average and the category means over a benchmark; a missing task counts as 0.

    Args:
      benchmark: The benchmark.
      entries: Data set -> its entry in scores.json.
      k_shot: Demonstrations per prompt.
    """
    (row,) = aggregate(benchmark, run_results("", "", entries)).rows
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
    """Returns what `table.aggregate` takes, from the entries of data sets in scores.json."""
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
        for seed, of_seed in entry["seeds"].items()
    ]
