"""Scores of many runs -> the benchmark table: dataset means, category means, overall, seeds."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping

import numpy as np

from sentidistill_jax.evaluation.benchmark import Benchmark
from sentidistill_jax.evaluation.text_table import Format, render_table


@dataclasses.dataclass(frozen=True)
class RunResult:
    """The stored result of one dataset in one run; fields, never parsed out of a name."""

    experiment: str
    model: str
    dataset: str
    seed: int
    k_shot: int
    f1: float  # in [0, 1]; tables use it rounded to 4 places, as the reference stores it
    accuracy: float = 0.0  # label tasks only


@dataclasses.dataclass(frozen=True)
class Row:
    """One experiment, model and number of shots, in percent; a missing dataset counts as 0."""

    experiment: str
    model: str
    k_shot: int
    values: Mapping[str, float]  # dataset -> mean over its runs; all, in table order
    categories: Mapping[str, float]  # category -> mean over its datasets
    average: float  # over all datasets of the benchmark
    missing: tuple[str, ...]  # datasets without a run
    seeds: tuple[int, ...]
    deviations: Mapping[str, float | None]  # dataset -> sample standard deviation over seeds
    average_deviation: float | None  # of the seeds' own averages; None below two complete seeds

    @property
    def name(self) -> str:
        """Label of the row."""
        return f"{self.experiment} ({self.model}, {self.k_shot}-shot)"


@dataclasses.dataclass(frozen=True)
class Table:
    """The table of a benchmark."""

    benchmark: Benchmark
    rows: tuple[Row, ...]  # in order of first appearance

    def render(self, format: Format) -> str:
        """Returns the table as text; see `render_table`."""
        benchmark = self.benchmark
        columns = (name.split("/")[-1] for name in benchmark.tasks)
        head = ["run", *columns, *benchmark.categories, "average"]
        return render_table([head, *map(_row_cells, self.rows)], format)


def aggregate(benchmark: Benchmark, results: Iterable[RunResult]) -> Table:
    """Builds the table from stored results.

    Runs that share experiment, model and number of shots form a row. A dataset's value is the
    mean over its runs, re-runs of a seed included; the average always divides by the number of the
    benchmark's tasks.

    Args:
      benchmark: The benchmark whose table it is.
      results: Stored results of any number of runs.

    Returns:
      The table, in percent.

    Raises:
      ValueError: If a result's dataset is not in the benchmark.
    """
    groups: dict[tuple[str, str, int], list[RunResult]] = {}
    for result in results:
        benchmark.task(result.dataset)
        groups.setdefault((result.experiment, result.model, result.k_shot), []).append(result)
    return Table(benchmark, tuple(_row(benchmark, *key, runs) for key, runs in groups.items()))


def _row(
    benchmark: Benchmark, experiment: str, model: str, k_shot: int, runs: list[RunResult]
) -> Row:
    means = _means(runs)
    values = {name: means.get(name, 0.0) for name in benchmark.tasks}
    seeds = tuple(sorted({run.seed for run in runs}))
    by_seed = [_means([run for run in runs if run.seed == seed]) for seed in seeds]
    complete = [of_seed for of_seed in by_seed if len(of_seed) == len(benchmark.tasks)]
    return Row(
        experiment,
        model,
        k_shot,
        values=values,
        categories=benchmark.category_means(means),
        average=benchmark.average(means),
        missing=tuple(name for name in benchmark.tasks if name not in means),
        seeds=seeds,
        deviations={
            name: _deviation([of_seed[name] for of_seed in by_seed if name in of_seed])
            for name in benchmark.tasks
        },
        average_deviation=_deviation([benchmark.average(one) for one in complete]),
    )


def _means(runs: list[RunResult]) -> dict[str, float]:
    """Returns the mean F1 in percent of each dataset that has a run."""
    scores: dict[str, list[float]] = {}
    for run in runs:
        scores.setdefault(run.dataset, []).append(round(run.f1, 4))
    # A plain sum: where four runs end halfway between two decimals, an exact one rounds elsewhere.
    return {name: 100 * float(np.mean(f1)) for name, f1 in scores.items()}


def _deviation(values: list[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _row_cells(row: Row) -> list[str]:
    def cell(value: float, deviation: float | None = None) -> str:
        return f"{value:.2f}" if deviation is None else f"{value:.2f} ± {deviation:.2f}"

    return [
        row.name,
        *(
            "-" if name in row.missing else cell(value, row.deviations[name])
            for name, value in row.values.items()
        ),
        *(cell(value) for value in row.categories.values()),
        cell(row.average, row.average_deviation),
    ]
