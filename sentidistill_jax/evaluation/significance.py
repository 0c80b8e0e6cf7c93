"""Is the difference real? Bootstrap intervals and paired tests over sentences.

Works for every task: a score is a function of per-sentence counts summed over sentences, so a
resample is one row of weights, and thousands of resamples are one matrix product.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Num

from sentidistill_jax.evaluation.metrics import Scores, Statistic

_CHUNK = 512  # resamples per matrix product: 512 x 2157 weights are 9 MB


@dataclasses.dataclass(frozen=True)
class Interval:
    """A score with its percentile bootstrap interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Paired comparison of two runs on the same sentences."""

    difference: float  # F1 of the first run minus F1 of the second
    p_value: float  # two-sided, approximate randomization


def bootstrap_interval(
    counts: Num[np.ndarray, "sentences cells"],
    statistic: Statistic,
    *,
    seed: int,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
) -> Interval:
    """Percentile bootstrap interval of F1 over sentences.

    Args:
      counts: Per-sentence counts of one run.
      statistic: Turns summed counts into scores with the key `f1`.
      seed: Seed of the resampling.
      confidence: Coverage in (0, 1).
      num_resamples: Bootstrap samples.

    Returns:
      F1 of the run and the interval's ends.

    Raises:
      ValueError: If there are no sentences or confidence is not in (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}, expected a number in (0, 1), e.g. 0.95.")
    num_sentences = len(counts)
    if num_sentences == 0:
        raise ValueError("counts has no sentences, expected one row per sentence.")
    generator = np.random.default_rng(seed)
    uniform = np.full(num_sentences, 1 / num_sentences)
    samples = np.concatenate(
        [
            statistic(generator.multinomial(num_sentences, uniform, size=size) @ counts)["f1"]
            for size in _chunks(num_resamples)
        ]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return Interval(_f1(statistic, counts), float(low), float(high))


def paired_randomization(
    first: Num[np.ndarray, "sentences cells"],
    second: Num[np.ndarray, "as_many cells"],
    statistic: Statistic,
    *,
    seed: int,
    num_resamples: int = 10_000,
) -> Comparison:
    """Approximate randomization test of the difference in F1 between two runs.

    Under the null hypothesis the two outputs of a sentence may be exchanged; each resample
    exchanges them with probability 1/2.

    Args:
      first: Per-sentence counts of one run.
      second: Those of the other run, same sentences in the same order.
      statistic: Turns summed counts into scores with the key `f1`.
      seed: Seed of the exchanges.
      num_resamples: Random exchanges.

    Returns:
      The difference and its p-value, at least 1 / (num_resamples + 1).

    Raises:
      ValueError: If the shapes differ.

    Source: Noreen 1989; (r + 1) / (R + 1) keeps the test valid (Phipson and Smyth 2010).
    """
    if first.shape != second.shape:
        raise ValueError(
            f"first has shape {first.shape}, second {second.shape}; "
            "compare two runs on the same sentences."
        )
    generator = np.random.default_rng(seed)
    difference = _f1(statistic, first) - _f1(statistic, second)
    gap = first - second
    extreme = 0
    for size in _chunks(num_resamples):
        moved = generator.integers(0, 2, size=(size, len(first))) @ gap
        one = statistic(first.sum(axis=0)[None] - moved)["f1"]
        other = statistic(second.sum(axis=0)[None] + moved)["f1"]
        # Equal outcomes must count as extreme in spite of rounding.
        extreme += int(np.sum(np.abs(one - other) >= abs(difference) - 1e-12))
    return Comparison(difference, (extreme + 1) / (num_resamples + 1))


def mean_over_runs(statistic: Statistic, num_runs: int) -> Statistic:
    """Returns the mean F1 of several runs whose counts lie side by side in a sentence's row.

    A resample then draws or exchanges a sentence in all runs together.
    """

    def mean(totals: np.ndarray) -> Scores:
        by_run = totals.reshape(*totals.shape[:-1], num_runs, -1)
        return {"f1": statistic(by_run)["f1"].mean(axis=-1)}

    return mean


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values for the number of comparisons, without assuming them independent.

    Args:
      p_values: One for each of the comparisons that are read together.

    Returns:
      Adjusted p-values in the same order; the chance that any of those below a level is a fluke is
      below that level.

    Source: Holm 1979.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _f1(statistic: Statistic, counts: Num[np.ndarray, "sentences cells"]) -> float:
    return float(statistic(counts.sum(axis=0))["f1"])


def _chunks(total: int) -> list[int]:
    return [min(_CHUNK, total - start) for start in range(0, total, _CHUNK)]
