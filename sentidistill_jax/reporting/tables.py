"""Scores of models as a table: held-out sets, then SentiBench by data set with its means."""

from collections.abc import Mapping, Sequence
from typing import Any

from sentidistill_jax.evaluation.grid import Format, render_grid
from sentidistill_jax.evaluation.tasks import CATEGORIES, TASKS
from sentidistill_jax.reporting.runs import HELD_OUT, SENTIBENCH, Model, variants


def set_names(models: Sequence[Model]) -> list[str]:
    """All sets of some models: SentiBench in the order of its tables, the others first."""
    found = list(dict.fromkeys(name for model in models for name in model.sets))
    bench = [SENTIBENCH + name for name in TASKS if SENTIBENCH + name in found]
    return [name for name in found if name not in bench] + bench


def short_name(set_name: str) -> str:
    """A set's name in a column: `reviews`, `sst2`."""
    return set_name.removeprefix(HELD_OUT).split("/")[-1]


def summaries(models: Sequence[Model]) -> list[str]:
    """Which means over SentiBench any of the models has: categories, then `average`."""
    found = {name for model in models for name in sentibench_means(model)}
    return [name for name in (*CATEGORIES, "average") if name in found]


def sentibench_means(model: Model) -> dict[str, float]:
    """Means over SentiBench, in [0, 1], a data set that was not asked counting as 0.

    Empty where none was asked, or only parts of test splits were: no such mean may be compared.
    """
    summary = model.scores.get("sentibench") or {}
    if not summary.get("complete"):
        return {}
    return {**summary.get("categories", {}), "average": summary["average"]}


def table(models: Sequence[Model], format: Format) -> str:
    """F1 in percent, a row per model and calibrated variant of it, and a column per set.

    A cell has the 95 % interval over examples, or for means over SentiBench the deviation over
    seeds.

    Args:
      models: Evaluated models.
      format: See `render_grid`.

    Returns:
      The table.
    """
    names, means = set_names(models), summaries(models)
    sizes = {name: model.sets[name].get("examples") for model in models for name in model.sets}
    head = ["F1, %", *(f"{short_name(name)} ({sizes[name]})" for name in names), *means]
    rows = []
    for model in models:
        rows.append(
            [
                model.name,
                *(_set_cell(model.sets.get(name)) for name in names),
                *(_mean_cell(model, name) for name in means),
            ]
        )
        calibrated = dict.fromkeys(
            variant for name in names for variant in calibrations([model], name)
        )
        for variant in calibrated:
            of_sets = (model.sets.get(name, {}).get("variants", {}).get(variant) for name in names)
            label = f"{model.name}, {variant.replace('_', ' ')}"
            rows.append([label, *map(_set_cell, of_sets), *["-"] * len(means)])
    return render_grid([head, *rows], format)


def calibrations(models: Sequence[Model], set_name: str) -> list[str]:
    """The variants of a set that differ in what was predicted, not in how answers were read."""
    task = TASKS.get(set_name.removeprefix(SENTIBENCH))
    return variants(models, set_name) if task is not None and task.label_words else []


def _set_cell(of_set: Mapping[str, Any] | None) -> str:
    if of_set is None:
        return "-"
    cell = f"{100 * of_set['f1']:.1f}"
    interval = of_set.get("interval_95")
    if not interval:
        return cell
    low, high = interval
    return f"{cell} [{100 * low:.1f}, {100 * high:.1f}]"


def _mean_cell(model: Model, name: str) -> str:
    value = sentibench_means(model).get(name)
    if value is None:
        return "-"
    deviation = model.scores["sentibench"].get("deviation") if name == "average" else None
    return f"{100 * value:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}")
