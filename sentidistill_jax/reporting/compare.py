"""Two models on the same examples: difference, its significance, and who won which example."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sentidistill_jax.evaluation import results, scoring
from sentidistill_jax.evaluation.metrics import (
    Statistic,
    label_counts,
    label_scores,
    tuple_counts,
    tuple_scores,
)
from sentidistill_jax.evaluation.significance import holm, mean_over_runs, paired_randomization
from sentidistill_jax.reporting.runs import ExampleKey, Line, ModelScores, Texts


@dataclasses.dataclass(frozen=True)
class Example:
    """An example on which one model is better than the other."""

    id: str
    seed: str  # of the demonstrations; "" without
    text: str | None  # None where it is not at hand
    gold: str
    answer: str  # of the model
    reference_answer: str


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A model against the reference on one set."""

    examples: int  # that both answered, over all seeds that both used
    difference: float  # in F1, model minus reference, on these examples
    p_value: float  # two-sided, of the paired randomization test
    adjusted_p_value: float  # Holm's, over all comparisons of the report
    num_won: int  # examples on which the model is better
    num_lost: int
    won: tuple[Example, ...]  # the clearest of them
    lost: tuple[Example, ...]


def compare(
    models: Sequence[ModelScores],
    reference: ModelScores,
    texts: Texts,
    *,
    num_examples: int,
    num_resamples: int = 10_000,
) -> dict[tuple[str, str], Comparison]:
    """Compares every model with the reference on every set that both have predictions for.

    Args:
      models: Evaluated models; the reference itself is passed over.
      reference: What the others are compared with.
      texts: Where texts of examples are found.
      num_examples: Most examples won, and most lost, to keep of a comparison.
      num_resamples: Random exchanges of the test.

    Returns:
      (model name, set) -> comparison. A pair is absent where a side has no predictions, the gold
      answers differ, or the score cannot be recomputed from what is at hand.
    """
    found = {}
    for model in models:
        if model.name == reference.name:
            continue
        for set_name in model.sets:
            comparison = _compare(model, reference, set_name, texts, num_examples, num_resamples)
            if comparison is not None:
                found[model.name, set_name] = comparison
    adjusted = holm([comparison.p_value for comparison in found.values()])
    return {
        key: dataclasses.replace(comparison, adjusted_p_value=p_value)
        for (key, comparison), p_value in zip(found.items(), adjusted, strict=True)
    }


def _compare(
    model: ModelScores,
    reference: ModelScores,
    set_name: str,
    texts: Texts,
    num_examples: int,
    num_resamples: int,
) -> Comparison | None:
    sides = [one.predictions.get(set_name, {}) for one in (model, reference)]
    keys = _common(*sides)
    if not keys:
        return None
    lines = [[side[key] for key in keys] for side in sides]
    if any(one["gold"] != other["gold"] for one, other in zip(*lines, strict=True)):
        return None
    counted = _count(set_name, model.sets[set_name], lines, texts)
    if counted is None:
        return None
    (first, second), statistic = counted
    num_seeds = len({seed for seed, _ in keys})
    tested = paired_randomization(
        _by_example(first, num_seeds),
        _by_example(second, num_seeds),
        mean_over_runs(statistic, num_seeds),
        seed=0,
        num_resamples=num_resamples,
    )
    gains = np.asarray(statistic(first)["f1"] - statistic(second)["f1"])
    certainty = [_certainty(*pair) for pair in zip(*lines, strict=True)]
    # The clearest first; equal ones in the order of the file.
    order = sorted(range(len(keys)), key=lambda at: (-abs(gains[at]), -certainty[at], at))
    won, lost = ([at for at in order if sign * gains[at] > 0] for sign in (1, -1))

    def example(at: int) -> Example:
        seed, name = keys[at]
        one, other = (side[at] for side in lines)
        shown = (str(value) for value in (one["gold"], one["predicted"], other["predicted"]))
        return Example(name, seed, texts.find(set_name, name), *shown)

    return Comparison(
        examples=len(keys),
        difference=tested.difference,
        p_value=tested.p_value,
        adjusted_p_value=tested.p_value,
        num_won=len(won),
        num_lost=len(lost),
        won=tuple(example(at) for at in won[:num_examples]),
        lost=tuple(example(at) for at in lost[:num_examples]),
    )


def _common(one: Mapping[ExampleKey, Line], other: Mapping[ExampleKey, Line]) -> list[ExampleKey]:
    """The examples that both have under every seed that both have, seed by seed."""
    seeds = sorted({seed for seed, _ in one} & {seed for seed, _ in other})
    names = list(dict.fromkeys(name for _, name in one))
    shared = [name for name in names if all((s, name) in one and (s, name) in other for s in seeds)]
    return [(seed, name) for seed in seeds for name in shared]


def _count(
    set_name: str, of_set: Mapping[str, Any], sides: Sequence[Sequence[Line]], texts: Texts
) -> tuple[list[np.ndarray], Statistic] | None:
    """Per-example counts of both sides, and the score that their sum gives."""
    if of_set["metric"] == "macro_f1":
        answers = {str(line[k]) for side in sides for line in side for k in ("gold", "predicted")}
        names = list(dict.fromkeys([*of_set.get("labels", ()), *sorted(answers)]))
        return [
            label_counts(
                np.array([names.index(str(line["gold"])) for line in side]),
                np.array([names.index(str(line["predicted"])) for line in side]),
                len(names),
            )
            for side in sides
        ], label_scores
    if of_set["metric"] == "micro_f1":
        return [
            tuple_counts(
                [_tuples(line["gold"]) for line in side],
                [_tuples(line["predicted"]) for line in side],
            )
            for side in sides
        ], tuple_scores
    return _count_anew(set_name, sides, texts)


def _count_anew(
    set_name: str, sides: Sequence[Sequence[Line]], texts: Texts
) -> tuple[list[np.ndarray], Statistic] | None:
    """Counts by the task's own metric, which may want more of an item than the gold answer."""
    found = texts.test_items(set_name)
    if found is None or any("answer" not in line for side in sides for line in side):
        return None
    task, items = found
    counts = []
    for side in sides:
        of_side = [items[int(line["id"])] for line in side]
        predicted = results.predictions(task, side)
        counts.append(scoring.sentence_counts(task, of_side, predicted)[0])
    return counts, task.metric.scores


def _tuples(items: Sequence[Any]) -> list[object]:
    return [tuple(item) if isinstance(item, list) else item for item in items]


def _by_example(counts: np.ndarray, num_seeds: int) -> np.ndarray:
    """[seeds * examples, cells] -> [examples, seeds * cells]: an example's seeds stay together."""
    split = counts.reshape(num_seeds, -1, counts.shape[-1])
    return split.transpose(1, 0, 2).reshape(split.shape[1], -1)


def _certainty(one: Line, other: Line) -> float:
    """Log of the chance that both models say what they say; 0 where there are no logprobs."""
    return sum(max(line.get("logprobs") or [0.0]) for line in (one, other))
