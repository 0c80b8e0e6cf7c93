"""Geometry of the page's charts; the templates draw it, so that every text is escaped there."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from sentidistill_jax.reporting.runs import Score

_MAX_POINTS = 400  # of a curve; more than its width in pixels shows nothing


@dataclasses.dataclass(frozen=True)
class Mark:
    """A score with its interval, in pixels."""

    series: int  # which model; decides colour and shape
    x: float
    y: float
    low: float | None
    high: float | None
    label: str  # what a pointer or a screen reader says


@dataclasses.dataclass(frozen=True)
class DotChart:
    """Scores by row and model on one axis, in pixels."""

    width: float
    height: float
    left: float  # where the axis begins
    bottom: float
    ticks: tuple[tuple[float, str], ...]  # x, text
    rows: tuple[tuple[float, str], ...]  # y, text
    bands: tuple[float, ...]  # top of every second row
    band_height: float
    marks: tuple[Mark, ...]


def dot_chart(rows: Sequence[tuple[str, Sequence[Score | None]]], names: Sequence[str]) -> DotChart:
    """Lays out a row per set and a mark per model.

    Args:
      rows: Label of a set, and the score of every model, None where it was not asked.
      names: Names of the models.

    Returns:
      The chart; the axis covers the values, at least ten points.
    """
    left, right, top, step = 150.0, 12.0, 6.0, 13.0
    width = 760.0
    row_height = step * len(names) + 12
    flat = [
        end
        for _, scores in rows
        for score in scores
        if score is not None
        for end in (score.value, *(score.interval or ()))
    ]
    ticks = nice_ticks(min(flat, default=0), max(flat, default=100), least=10)
    scale = (width - left - right) / (ticks[-1] - ticks[0])

    def x_of(value: float) -> float:
        return round(left + (value - ticks[0]) * scale, 1)

    marks = []
    for number, (label, scores) in enumerate(rows):
        for series, score in enumerate(scores):
            if score is None:
                continue
            ends = score.interval
            low, high = map(x_of, ends) if ends else (None, None)
            told = f"{label}, {names[series]}: {score.value:.1f}"
            told += f" ({ends[0]:.1f} to {ends[1]:.1f})" if ends else ""
            y = top + number * row_height + 6 + (series + 0.5) * step
            marks.append(Mark(series, x_of(score.value), y, low, high, told))
    bottom = top + len(rows) * row_height
    return DotChart(
        width=width,
        height=bottom + 24,
        left=left,
        bottom=bottom,
        ticks=tuple((x_of(tick), f"{tick:g}") for tick in ticks),
        rows=tuple((top + (at + 0.5) * row_height, row[0]) for at, row in enumerate(rows)),
        bands=tuple(top + at * row_height for at in range(0, len(rows), 2)),
        band_height=row_height,
        marks=tuple(marks),
    )


@dataclasses.dataclass(frozen=True)
class LineChart:
    """Curves over steps, in pixels."""

    title: str
    width: float
    height: float
    left: float
    bottom: float
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    curves: tuple[tuple[int, str, str, str], ...]  # series, name, raw and smoothed points
    summary: str  # the curves in words


def line_chart(
    title: str, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], order: Sequence[str]
) -> LineChart:
    """Lays out one metric of several training runs.

    Args:
      title: Name of the metric.
      curves: Run -> steps, values; at least one point in all.
      order: All runs; a run's place in it decides its colour.

    Returns:
      The chart, with every curve raw and smoothed.
    """
    left, right, top, height, width = 52.0, 20.0, 8.0, 190.0, 480.0
    bottom = height - 24
    finite = {
        name: [(s, v) for s, v in zip(*points, strict=True) if math.isfinite(v)]
        for name, points in curves.items()
    }
    finite = {name: _thin(points) for name, points in finite.items() if points}
    all_points = [point for points in finite.values() for point in points]
    xs, ys = zip(*all_points, strict=True) if all_points else ((0.0,), (0.0,))
    x_ticks, y_ticks = nice_ticks(0, max(xs)), nice_ticks(min(ys), max(ys))
    x_scale = (width - left - right) / (x_ticks[-1] - x_ticks[0])
    y_scale = (bottom - top) / (y_ticks[-1] - y_ticks[0])

    def place(points: Sequence[tuple[float, float]]) -> str:
        return " ".join(
            f"{left + (x - x_ticks[0]) * x_scale:.1f},{bottom - (y - y_ticks[0]) * y_scale:.1f}"
            for x, y in points
        )

    return LineChart(
        title=title,
        width=width,
        height=height,
        left=left,
        bottom=bottom,
        x_ticks=tuple((left + (tick - x_ticks[0]) * x_scale, f"{tick:g}") for tick in x_ticks),
        y_ticks=tuple((bottom - (tick - y_ticks[0]) * y_scale, f"{tick:g}") for tick in y_ticks),
        curves=tuple(
            (order.index(name), name, place(points), place(_smooth(points)))
            for name, points in finite.items()
        ),
        summary="; ".join(
            f"{name}: from {points[0][1]:.4g} at step {points[0][0]:g} to {points[-1][1]:.4g} at"
            f" step {points[-1][0]:g}"
            for name, points in finite.items()
        ),
    )


def nice_ticks(low: float, high: float, *, least: float = 0.0, count: int = 5) -> list[float]:
    """Round numbers that cover [low, high] in about `count` equal steps, over at least `least`."""
    if high - low < least:
        low = low - (least - (high - low)) / 2
        high = low + least
    if high <= low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of runs of neighbours, so that at most `_MAX_POINTS` are left."""
    group = -(-len(points) // _MAX_POINTS)
    parts = [points[start : start + group] for start in range(0, len(points), group)]
    return [(part[-1][0], math.fsum(y for _, y in part) / len(part)) for part in parts]


def _smooth(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Centred means over a tenth of the curve, narrower towards its ends."""
    half = len(points) // 20
    smoothed = []
    for at, (x, _) in enumerate(points):
        reach = min(half, at, len(points) - 1 - at)
        window = points[at - reach : at + reach + 1]
        smoothed.append((x, math.fsum(y for _, y in window) / len(window)))
    return smoothed
