"""Scores of models as a table and as bars: held-out sets, then benchmarks with their means."""

import pathlib
from collections.abc import Sequence

from matplotlib.figure import Figure

from sentidistill_jax.evaluation.benchmark import Benchmark
from sentidistill_jax.evaluation.results import ANSWER_VARIANTS
from sentidistill_jax.evaluation.text_table import Format, render_table
from sentidistill_jax.reporting.runs import HELD_OUT, ModelScores, Score, variants


def asked_benchmarks(models: Sequence[ModelScores]) -> list[Benchmark]:
    """Returns the benchmarks that any of the models was asked."""
    return list(dict.fromkeys(benchmark for model in models for benchmark in model.benchmarks))


def set_names(models: Sequence[ModelScores]) -> list[str]:
    """Returns all sets of some models: those of benchmarks in table order, the others first."""
    found = list(dict.fromkeys(name for model in models for name in model.sets))
    in_table_order = [
        name
        for benchmark in asked_benchmarks(models)
        for name in map(benchmark.set_name, benchmark.tasks)
        if name in found
    ]
    return [name for name in found if name not in in_table_order] + in_table_order


def short_name(set_name: str) -> str:
    """Returns a set's name in a column: `reviews`, `sst2`."""
    return set_name.removeprefix(HELD_OUT).split("/")[-1]


def mean_names(models: Sequence[ModelScores], benchmark: Benchmark) -> list[str]:
    """Returns which means over a benchmark any model has: of categories, then `average`."""
    names = (*benchmark.categories, "average")
    return [name for name in names if any(model.mean(benchmark, name) for model in models)]


def table(models: Sequence[ModelScores], format: Format) -> str:
    """Renders F1 in percent: a row per model and calibrated variant, a column per set.

    A cell has the 95 % interval over examples, or for means over a benchmark the deviation over
    seeds, and the area under the ROC curve where it is known, which no calibration changes. The
    number of examples stands over a column, or in each cell where models were asked different ones.

    Args:
      models: Evaluated models.
      format: See `render_table`.

    Returns:
      The table.
    """
    names, benchmarks = set_names(models), asked_benchmarks(models)
    means = [(one, mean) for one in benchmarks for mean in mean_names(models, one)]
    sizes = {name: {model.examples(name) for model in models} - {None} for name in names}
    differ = {name for name in names if len(sizes[name]) > 1}
    head = ["F1, %"]
    for name in names:
        size = "" if name in differ else "".join(f" ({only})" for only in sizes[name])
        head.append(short_name(name) + size)
    head += [mean if len(benchmarks) == 1 else f"{one.title}, {mean}" for one, mean in means]
    rows = []

    def cell(model: ModelScores, name: str, variant: str | None = None) -> str:
        text = _cell(model.score(name, variant))
        return f"{text} n={model.examples(name)}" if name in differ and text != "-" else text

    for model in models:
        rows.append(
            [
                model.name,
                *(cell(model, name) for name in names),
                *(_cell(model.mean(benchmark, mean)) for benchmark, mean in means),
            ]
        )
        calibrated = dict.fromkeys(
            variant for name in names for variant in calibrations([model], name)
        )
        for variant in calibrated:
            cells = (cell(model, name, variant) for name in names)
            rows.append([f"{model.name}, {variant.replace('_', ' ')}", *cells, *["-"] * len(means)])
    return render_table([head, *rows], format)


def calibrations(models: Sequence[ModelScores], set_name: str) -> list[str]:
    """Returns the variants of a set that differ in what was predicted, not in how it was read."""
    return [name for name in variants(models, set_name) if name not in ANSWER_VARIANTS]


def _cell(score: Score | None) -> str:
    if score is None:
        return "-"
    text = f"{score.value:.1f}"
    if score.interval:
        text += f" [{score.interval[0]:.1f}, {score.interval[1]:.1f}]"
    elif score.deviation is not None:
        text += f" ± {score.deviation:.1f}"
    return text if score.auc is None else f"{text} AUC {score.auc:.1f}"


def plot(models: Sequence[ModelScores], path: pathlib.Path) -> None:
    """Draws bars of F1 by set and model into a PNG, with 95 % intervals where they are known."""
    sets = set_names(models)
    width = 0.8 / len(models)
    figure = Figure(figsize=(max(7.0, 1.6 * len(sets)), 4.2), layout="constrained")
    axes = figure.subplots()
    for index, model in enumerate(models):
        at, values, below, above = [], [], [], []
        for position, name in enumerate(sets):
            score = model.score(name)
            if score is None:
                continue
            low, high = score.interval or (score.value, score.value)
            at.append(position + (index - (len(models) - 1) / 2) * width)
            values.append(score.value)
            below.append(max(0.0, score.value - low))
            above.append(max(0.0, high - score.value))
        label = model.name.replace("$", r"\$")  # no mathematics in a name
        axes.bar(at, values, width, yerr=[below, above], label=label, error_kw={"lw": 0.8})
    axes.set_xticks(range(len(sets)), [short_name(name) for name in sets])
    axes.set_ylabel("F1, %")
    axes.set_ylim(0, 100)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=150)
