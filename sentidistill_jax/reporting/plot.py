"""Scores as bars in a PNG, for places that take no page."""

import pathlib
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402 - the backend comes first

from sentidistill_jax.reporting.runs import Model  # noqa: E402
from sentidistill_jax.reporting.tables import set_names, short_name  # noqa: E402


def plot(models: Sequence[Model], path: pathlib.Path) -> None:
    """Bars of F1 by set and model, with 95 % intervals where they are known."""
    sets = set_names(models)
    width = 0.8 / len(models)
    figure, axes = plt.subplots(figsize=(max(7.0, 1.6 * len(sets)), 4.2), layout="constrained")
    for index, model in enumerate(models):
        at, values, below, above = [], [], [], []
        for position, name in enumerate(sets):
            if name not in model.sets:
                continue
            value = model.sets[name]["f1"]
            low, high = model.sets[name].get("interval_95") or (value, value)
            at.append(position + (index - (len(models) - 1) / 2) * width)
            values.append(100 * value)
            below.append(100 * max(0.0, value - low))
            above.append(100 * max(0.0, high - value))
        label = model.name.replace("$", r"\$")  # no mathematics in a name
        axes.bar(at, values, width, yerr=[below, above], label=label, error_kw={"lw": 0.8})
    axes.set_xticks(range(len(sets)), [short_name(name) for name in sets])
    axes.set_ylabel("F1, %")
    axes.set_ylim(0, 100)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
