"""What each part of the page shows, as plain values for its templates."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sentidistill_jax.evaluation.tasks import CATEGORIES, TASKS
from sentidistill_jax.reporting.charts import DotChart, LineChart, dot_chart, line_chart
from sentidistill_jax.reporting.compare import Comparison
from sentidistill_jax.reporting.runs import SENTIBENCH, Model, TrainingRun, variants
from sentidistill_jax.reporting.tables import (
    calibrations,
    sentibench_means,
    set_names,
    short_name,
    summaries,
)

SIGNIFICANT = 0.05  # of adjusted p-values

_Value = tuple[float, float, float] | float | None  # with interval, without, or not asked

_CURVES = {
    "train/loss": "Loss",
    "train/ce_nats": "Cross-entropy on the teacher's text, nats a token",
    "train/divergence_nats": "Divergence from the teacher's distribution, nats a token",
    "train/divergence_mass": "Total variation from the teacher's distribution, mass a token",
    "train/label_kl_nats": "KL over label words, nats an answer",
    "train/gradient_norm": "Norm of the gradient",
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A model's score on a set or a mean of sets, in percent."""

    value: float
    interval: tuple[float, float] | None = None
    deviation: float | None = None  # over seeds
    best: bool = False
    comparison: Comparison | None = None

    @property
    def significant(self) -> bool:
        """Whether the difference from the reference is more than chance."""
        return self.comparison is not None and self.comparison.adjusted_p_value < SIGNIFICANT


@dataclasses.dataclass(frozen=True)
class Row:
    """A set, or a mean of sets, with a cell per model."""

    label: str
    detail: str  # metric and number of examples
    cells: tuple[Cell | None, ...]
    is_mean: bool = False


def score_charts(models: Sequence[Model]) -> list[tuple[str, DotChart]]:
    """One chart for SentiBench, if any of it was asked, and one for the other sets."""
    names = [model.name for model in models]
    bench: list[tuple[str, list[_Value]]] = [
        (mean, [_percent(sentibench_means(model).get(mean)) for model in models])
        for mean in sorted(summaries(models), key=lambda mean: mean != "average")
    ]
    others: list[tuple[str, list[_Value]]] = []
    for set_name in set_names(models):
        rows = bench if set_name.startswith(SENTIBENCH) else others
        values = [_chart_value(model.sets.get(set_name)) for model in models]
        rows.append((short_name(set_name), values))
        for variant in calibrations(models, set_name):
            of_variant = [_chart_value(_variant(model, set_name, variant)) for model in models]
            rows.append((_variant_name(set_name, variant), of_variant))
    titled = (("SentiBench", bench), ("Held-out texts", others))
    return [(title, dot_chart(rows, names)) for title, rows in titled if rows]


def score_groups(
    models: Sequence[Model], comparisons: Mapping[tuple[str, str], Comparison]
) -> list[tuple[str, list[Row]]]:
    """Rows of the table of scores: held-out sets, then SentiBench by category."""
    groups: dict[str, list[Row]] = {}
    for name in set_names(models):
        task = TASKS.get(name.removeprefix(SENTIBENCH)) if name.startswith(SENTIBENCH) else None
        group = f"SentiBench, {task.category}" if task else "Held-out texts"
        rows = groups.setdefault(group, [])
        rows.append(_row(name, models, comparisons))
        for variant in variants(models, name):
            cells = [_cell(_variant(model, name, variant)) for model in models]
            rows.append(Row(_variant_name(name, variant), "variant of the score", _best(cells)))
    for mean in summaries(models):
        group = f"SentiBench, {mean}" if mean in CATEGORIES else "SentiBench, all"
        values = [sentibench_means(model).get(mean) for model in models]
        deviations = [
            (model.scores.get("sentibench") or {}).get("deviation") if mean == "average" else None
            for model in models
        ]
        cells = [
            None if value is None else Cell(100 * value, deviation=_percent(deviation))
            for value, deviation in zip(values, deviations, strict=True)
        ]
        groups.setdefault(group, []).append(
            Row("mean" if mean in CATEGORIES else "average of all twelve", "", _best(cells), True)
        )
    return list(groups.items())


def _row(
    name: str, models: Sequence[Model], comparisons: Mapping[tuple[str, str], Comparison]
) -> Row:
    cells = [_cell(model.sets.get(name), comparisons.get((model.name, name))) for model in models]
    present = [model.sets[name] for model in models if name in model.sets]
    metric = str(present[0]["metric"]).replace("_", " ").replace("f1", "F1")
    examples: set[int] = {of_set["examples"] for of_set in present if of_set.get("examples")}
    counts = " or ".join(f"{count:,}" for count in sorted(examples))
    detail = f"{metric}, {counts} examples" if counts else metric
    return Row(short_name(name), detail, _best(cells))


def _cell(of_set: Mapping[str, Any] | None, comparison: Comparison | None = None) -> Cell | None:
    if of_set is None:
        return None
    ends = of_set.get("interval_95")
    return Cell(
        100 * of_set["f1"],
        interval=(100 * ends[0], 100 * ends[1]) if ends else None,
        deviation=_percent(of_set.get("deviation")),
        comparison=comparison,
    )


def _variant(model: Model, set_name: str, variant: str) -> Mapping[str, Any] | None:
    return model.sets.get(set_name, {}).get("variants", {}).get(variant)


def _variant_name(set_name: str, variant: str) -> str:
    return f"{short_name(set_name)}, {variant.replace('_', ' ')}"


def _best(cells: Sequence[Cell | None]) -> tuple[Cell | None, ...]:
    values = [round(cell.value, 1) for cell in cells if cell is not None]
    if len(values) < 2:
        return tuple(cells)
    return tuple(
        cell and dataclasses.replace(cell, best=round(cell.value, 1) == max(values))
        for cell in cells
    )


def training_curves(training: Sequence[TrainingRun]) -> list[LineChart]:
    """Charts of losses and of what was evaluated during training; parts by kind are left out."""
    order = [run.name for run in training]
    found = dict.fromkeys(name for run in training for name in run.series)
    titles = _CURVES | {name: name for name in found if not name.startswith("train/")}
    return [
        line_chart(title, curves, order)
        for name, title in titles.items()
        if (curves := {run.name: run.series[name] for run in training if name in run.series})
    ]


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Counts [gold][predicted] of one model."""

    model: str
    labels: tuple[str, ...]
    rows: tuple[tuple[tuple[int, float], ...], ...]  # count, and its share of the gold label


def confusions(models: Sequence[Model]) -> list[tuple[str, list[Confusion]]]:
    """Set -> confusion matrices of the models that have one."""
    found: list[tuple[str, list[Confusion]]] = []
    for name in set_names(models):
        of_set = [c for model in models if (c := _confusion(model, name)) is not None]
        if of_set:
            found.append((short_name(name), of_set))
    return found


def _confusion(model: Model, name: str) -> Confusion | None:
    of_set = model.sets.get(name)
    if of_set is None or "confusion" not in of_set:
        return None
    return Confusion(
        model.name,
        tuple(of_set["labels"]),
        tuple(
            tuple((n, n / sum(row) if sum(row) else 0.0) for n in row)
            for row in of_set["confusion"]
        ),
    )


def duels(
    models: Sequence[Model], comparisons: Mapping[tuple[str, str], Comparison]
) -> list[tuple[str, list[tuple[str, Comparison]]]]:
    """Model -> its comparisons with the reference by set, where any example differs."""
    return [
        (model.name, of_model)
        for model in models
        if (
            of_model := [
                (short_name(name), comparisons[model.name, name])
                for name in set_names(models)
                if (model.name, name) in comparisons
                and (comparisons[model.name, name].won or comparisons[model.name, name].lost)
            ]
        )
    ]


def provenance(models: Sequence[Model]) -> list[tuple[str, list[str]]]:
    """What was scored and how: field -> value per model, "" where it is not known."""
    flat = [
        {"working directory": model.run, "package": str(model.scores.get("package_version", ""))}
        | dict(_flatten(model.scores.get("provenance") or {}))
        for model in models
    ]
    fields = dict.fromkeys(field for one in flat for field in one)
    return [(field, [one.get(field, "") for one in flat]) for field in fields]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, str(value)


def notes(
    models: Sequence[Model],
    training: Sequence[TrainingRun],
    reference: Model,
    comparisons: Mapping[tuple[str, str], Comparison],
) -> list[str]:
    """What the page cannot show, and why."""
    found = [
        f"{model.name} has no predictions.jsonl: no significance and no examples."
        for model in models
        if not model.predictions
    ]
    for model in models:
        summary = model.scores.get("sentibench")
        if summary is not None and not summary.get("complete"):
            found.append(
                f"{model.name} was not asked all of SentiBench: its scores are of parts, and its"
                " means are left out."
            )
        unpaired = [
            short_name(name)
            for name in model.sets
            if name in reference.sets
            and model.name != reference.name
            and model.predictions
            and (model.name, name) not in comparisons
        ]
        if unpaired:
            found.append(
                f"{model.name} and {reference.name} cannot be paired on {', '.join(unpaired)}:"
                " no common predictions, other gold answers, or no SENTIBENCH_DIR to score with."
            )
    if not training:
        found.append("The working directories hold no training metrics.")
    return found


def _chart_value(of_set: Mapping[str, Any] | None) -> _Value:
    if of_set is None:
        return None
    ends = of_set.get("interval_95")
    value = 100 * of_set["f1"]
    return (value, 100 * ends[0], 100 * ends[1]) if ends else value


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
