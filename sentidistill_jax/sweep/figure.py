"""A study as one figure: the arms at every size, with 95 % intervals over seeds."""

import pathlib
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sentidistill_jax.sweep.report import ArmResult

_PANEL = (4.2, 3.4)  # inches
_APART = 0.08  # between the arms at one size


def study_figure(results: Sequence[ArmResult], path: pathlib.Path) -> None:
    """Draws a panel for each measure into a PNG: sizes from left to right, or else arms.

    Args:
      results: At least one.
      path: The file.
    """
    measures = list(dict.fromkeys(one.measure for one in results))
    columns = min(2, len(measures))
    rows = -(-len(measures) // columns)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for axes, measure in zip(panels, measures, strict=False):
        _panel(axes, [one for one in results if one.measure == measure])
        axes.set_title(_plain(measure), fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(panels)[len(measures) :]:
        axes.set_visible(False)
    if any(one.size for one in results):
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=150)


def _panel(axes: Axes, results: Sequence[ArmResult]) -> None:
    sizes = list(dict.fromkeys(one.size for one in results))
    arms = list(dict.fromkeys(one.arm for one in results))
    has_sizes = len(sizes) > 1 or sizes != [""]
    for number, arm in enumerate(arms):
        of_arm = [one for one in results if one.arm == arm]
        shift = (number - (len(arms) - 1) / 2) * _APART
        at = [sizes.index(one.size) + shift if has_sizes else float(number) for one in of_arm]
        axes.errorbar(
            at, [one.value.mean for one in of_arm], [one.value.half_width or 0 for one in of_arm],
            label=_plain(arm), marker="o", capsize=3, linewidth=1.2,
        )  # fmt: skip
    shown = sizes if has_sizes else arms
    axes.set_xticks(range(len(shown)), [_plain(name) for name in shown], fontsize="small")
    axes.margins(x=0.15)


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # no mathematics in a name
