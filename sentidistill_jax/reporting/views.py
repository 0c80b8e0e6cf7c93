"""Contents of each part of the page, as plain values for its templates."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sentidistill_jax.reporting.charts import DotChart, LineChart, dot_chart, line_chart
from sentidistill_jax.reporting.compare import Comparison
from sentidistill_jax.reporting.runs import ModelScores, Score, TrainingRun, find_task, variants
from sentidistill_jax.reporting.tables import (
    asked_benchmarks,
    calibrations,
    mean_names,
    set_names,
    short_name,
)

SIGNIFICANT = 0.05  # of adjusted p-values
_HELD_OUT = "Held-out texts"

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
    """A model's score in a row of the table."""

    score: Score
    best: bool = False
    comparison: Comparison | None = None

    @property
    def significant(self) -> bool:
        """True if the difference from the reference is more than chance."""
        return self.comparison is not None and self.comparison.adjusted_p_value < SIGNIFICANT


@dataclasses.dataclass(frozen=True)
class Row:
    """A set, or a mean of sets, with a cell per model."""

    label: str
    detail: str  # metric and number of examples
    cells: tuple[Cell | None, ...]
    is_mean: bool = False


def score_charts(models: Sequence[ModelScores]) -> list[tuple[str, DotChart]]:
    """Returns one chart for each benchmark of which any set was asked, and one for other sets."""
    names, benchmarks = [model.name for model in models], asked_benchmarks(models)
    charts: dict[str, list[tuple[str, list[Score | None]]]] = {
        benchmark.title: [
            (mean, [model.mean(benchmark, mean) for model in models])
            for mean in sorted(mean_names(models, benchmark), key=lambda mean: mean != "average")
        ]
        for benchmark in benchmarks
    }
    charts[_HELD_OUT] = []
    for set_name in set_names(models):
        found = find_task(benchmarks, set_name)
        rows = charts[found[0].title if found else _HELD_OUT]
        rows.append((short_name(set_name), [model.score(set_name) for model in models]))
        for variant in calibrations(models, set_name):
            scores = [model.score(set_name, variant) for model in models]
            rows.append((_variant_name(set_name, variant), scores))
    return [(title, dot_chart(rows, names)) for title, rows in charts.items() if rows]


def score_groups(
    models: Sequence[ModelScores], comparisons: Mapping[tuple[str, str], Comparison]
) -> list[tuple[str, list[Row]]]:
    """Returns the rows of the table of scores: held-out sets, then benchmarks by category."""
    groups: dict[str, list[Row]] = {}
    benchmarks = asked_benchmarks(models)
    for name in set_names(models):
        found = find_task(benchmarks, name)
        group = f"{found[0].title}, {found[1].category}" if found else _HELD_OUT
        rows = groups.setdefault(group, [])
        rows.append(_row(name, models, comparisons))
        for variant in variants(models, name):
            cells = _cells([model.score(name, variant) for model in models])
            rows.append(Row(_variant_name(name, variant), "variant of the score", cells))
    for benchmark in benchmarks:
        for mean in mean_names(models, benchmark):
            is_average = mean == "average"
            cells = _cells([model.mean(benchmark, mean) for model in models])
            label = f"average of all {len(benchmark.tasks)}" if is_average else "mean"
            group = f"{benchmark.title}, {'all' if is_average else mean}"
            groups.setdefault(group, []).append(Row(label, "", cells, is_mean=True))
    return list(groups.items())


def _row(
    name: str, models: Sequence[ModelScores], comparisons: Mapping[tuple[str, str], Comparison]
) -> Row:
    cells = _cells(
        [model.score(name) for model in models],
        [comparisons.get((model.name, name)) for model in models],
    )
    present = [model.sets[name] for model in models if name in model.sets]
    metric = str(present[0]["metric"]).replace("_", " ").replace("f1", "F1")
    examples: set[int] = {of_set["examples"] for of_set in present if of_set.get("examples")}
    counts = " or ".join(f"{count:,}" for count in sorted(examples))
    detail = f"{metric}, {counts} examples" if counts else metric
    return Row(short_name(name), detail, cells)


def _variant_name(set_name: str, variant: str) -> str:
    return f"{short_name(set_name)}, {variant.replace('_', ' ')}"


def _cells(
    scores: Sequence[Score | None], comparisons: Sequence[Comparison | None] = ()
) -> tuple[Cell | None, ...]:
    values = [round(score.value, 1) for score in scores if score is not None]
    return tuple(
        score and Cell(score, len(values) > 1 and round(score.value, 1) == max(values), comparison)
        for score, comparison in itertools.zip_longest(scores, comparisons)
    )


def training_curves(training: Sequence[TrainingRun]) -> list[LineChart]:
    """Returns charts of losses and of evaluations during training; parts by kind are left out."""
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


def confusions(models: Sequence[ModelScores]) -> list[tuple[str, list[Confusion]]]:
    """Returns set -> confusion matrices of the models that have one."""
    found: list[tuple[str, list[Confusion]]] = []
    for name in set_names(models):
        of_set = [c for model in models if (c := _confusion(model, name)) is not None]
        if of_set:
            found.append((short_name(name), of_set))
    return found


def _confusion(model: ModelScores, name: str) -> Confusion | None:
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
    models: Sequence[ModelScores], comparisons: Mapping[tuple[str, str], Comparison]
) -> list[tuple[str, list[tuple[str, Comparison]]]]:
    """Returns model -> comparisons with the reference by set, where any example differs."""
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


def provenance(models: Sequence[ModelScores]) -> list[tuple[str, list[str]]]:
    """Returns how each model was scored: field -> value per model, "" where not known."""
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
    models: Sequence[ModelScores],
    training: Sequence[TrainingRun],
    reference: ModelScores,
    comparisons: Mapping[tuple[str, str], Comparison],
) -> list[str]:
    """Returns sentences on what the page cannot show, and why."""
    found = [
        f"{model.name} has no predictions.jsonl: no significance and no examples."
        for model in models
        if not model.predictions
    ]
    for model in models:
        for benchmark in model.benchmarks:
            summary = model.scores.get(benchmark.name)
            if summary is not None and not summary.get("complete"):
                found.append(
                    f"{model.name} was not asked all of {benchmark.title}: its scores are of parts,"
                    " and its means are left out."
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
                " no common predictions, other gold answers, or no benchmark files to score with."
            )
    if not training:
        found.append("The working directories hold no training metrics.")
    return found
