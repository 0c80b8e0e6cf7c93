"""Working directories as the stages leave them, small, with scores by the real scorer."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sentidistill_jax.corpus.records import write_records
from sentidistill_jax.corpus.user_texts import UserText
from sentidistill_jax.evaluation.benchmarks.sentibench import SENTIBENCH
from sentidistill_jax.evaluation.metrics import (
    label_counts,
    label_scores,
    tuple_counts,
    tuple_scores,
)
from sentidistill_jax.evaluation.significance import bootstrap_interval

POLARITY = ("negative", "positive")


def label_lines(
    set_name: str, gold: Sequence[int], predicted: Sequence[int], labels=POLARITY, seed=None
) -> list[dict[str, Any]]:
    """Lines of predictions.jsonl of a label set; ids count from 0."""
    lines = []
    for at, (right, said) in enumerate(zip(gold, predicted, strict=True)):
        logprobs = [-3.0] * len(labels)
        logprobs[said] = -0.1 - 0.01 * at
        line = {"set": set_name, "id": str(at), "gold": labels[right], "predicted": labels[said]}
        lines.append(line | {"logprobs": logprobs} | ({} if seed is None else {"seed": seed}))
    return lines


def scores_of(lines: Sequence[Mapping[str, Any]], labels=POLARITY, **more: Any) -> dict[str, Any]:
    """A set's entry of scores.json, schema version 2, from the lines of one seed."""
    if labels is None:
        gold, predicted = ([[tuple(t) for t in line[key]] for line in lines] for key in _ANSWERS)
        counts, statistic = tuple_counts(gold, predicted), tuple_scores
        own = {"metric": "micro_f1"}
    else:
        gold, predicted = (
            np.array([labels.index(line[key]) for line in lines]) for key in _ANSWERS
        )
        counts, statistic = label_counts(gold, predicted, len(labels)), label_scores
        own = {
            "metric": "macro_f1",
            "labels": list(labels),
            "confusion": counts.sum(axis=0).reshape(len(labels), -1).tolist(),
        }
    interval = bootstrap_interval(counts, statistic, seed=0, num_resamples=200)
    return own | {
        "f1": interval.value,
        "interval_95": [interval.low, interval.high],
        "examples": len(lines),
        **more,
    }


_ANSWERS = ("gold", "predicted")


def write_model(
    workdir: pathlib.Path, name: str, sets: Mapping[str, Any], lines: Sequence[Any] = (), **more
) -> None:
    """evaluation/NAME with its scores and, if there are any, its predictions."""
    directory = workdir / "evaluation" / name
    directory.mkdir(parents=True)
    scores = {"schema_version": 2, "package_version": "0.1.0", "model": name, "sets": sets}
    (directory / "scores.json").write_text(json.dumps(scores | more))
    if lines:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (directory / "predictions.jsonl").write_text(text)


def write_texts(workdir: pathlib.Path, texts: Sequence[str]) -> None:
    """texts/held_out.jsonl; ids count from 0."""
    records = [UserText(str(at), "movie", text, "held_out") for at, text in enumerate(texts)]
    write_records(workdir / "texts" / "held_out.jsonl", records, UserText)


def write_metrics(workdir: pathlib.Path, name: str, losses: Sequence[float]) -> None:
    """students/NAME/metrics.jsonl."""
    path = workdir / "students" / name / "metrics.jsonl"
    path.parent.mkdir(parents=True)
    lines = [{"step": at + 1, "train/loss": loss} for at, loss in enumerate(losses)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def sentibench_summary(values: Mapping[str, float], **more: Any) -> dict[str, Any]:
    """The entry `sentibench` of scores.json for F1 by data set."""
    return {
        "seeds": [42],
        "k_shot": 4,
        "complete": True,
        "average": sum(values.values()) / 12,
        "deviation": None,
        "categories": {
            category: sum(values.get(name, 0) for name in names) / 4
            for category, names in _CATEGORIES.items()
        },
        "missing": [name for name in SENTIBENCH.tasks if name not in values],
    } | more


_CATEGORIES = {
    category: [name for name, task in SENTIBENCH.tasks.items() if task.category == category]
    for category in SENTIBENCH.categories
}
