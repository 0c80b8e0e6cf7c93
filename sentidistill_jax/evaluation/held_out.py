"""Entries of scores.json and lines of predictions.jsonl for held-out texts with two classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sentidistill_jax.evaluation.metrics import area_under_curve, label_counts, label_scores
from sentidistill_jax.evaluation.significance import bootstrap_interval


def held_out_scores(
    gold: np.ndarray, logprobs: np.ndarray, labels: Sequence[str]
) -> dict[str, Any]:
    """Macro-F1, accuracy and AUC of a binary set, with an interval and a confusion matrix.

    Args:
      gold: Indices into the labels, int [texts].
      logprobs: Scores of the labels, [texts, 2].
      labels: Their names.
    """
    counts = label_counts(gold, logprobs.argmax(axis=1), logprobs.shape[1])
    scores = label_scores(counts.sum(axis=0))
    interval = bootstrap_interval(counts, label_scores, seed=0)
    return {
        "metric": "macro_f1",
        "f1": float(scores["f1"]),
        "macro_f1": float(scores["f1"]),
        "accuracy": float(scores["accuracy"]),
        "auc": area_under_curve(logprobs[:, 0] - logprobs[:, 1], gold == 0),
        "interval_95": [float(interval.low), float(interval.high)],
        "examples": len(gold),
        "labels": list(labels),
        "confusion": counts.sum(axis=0).reshape(len(labels), len(labels)).tolist(),
    }


def held_out_lines(
    set_name: str,
    ids: Sequence[str],
    gold: np.ndarray,
    logprobs: np.ndarray,
    labels: Sequence[str],
) -> list[dict[str, Any]]:
    """Predictions of one set; arguments as of `held_out_scores`, `ids` being those of the texts."""
    return [
        {
            "set": set_name,
            "id": one,
            "gold": labels[right],
            "predicted": labels[int(row.argmax())],
            "logprobs": [round(float(value), 5) for value in row],
        }
        for one, right, row in zip(ids, gold, logprobs, strict=True)
    ]
