"""Reads what a working directory holds of scores, predictions, training metrics and texts.

Only scores are required. Everything else may be missing, and is then left out of the report.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sentidistill_jax.corpus.records import read_records
from sentidistill_jax.corpus.user_texts import UserText
from sentidistill_jax.evaluation.benchmark import Benchmark
from sentidistill_jax.evaluation.benchmarks import BENCHMARKS
from sentidistill_jax.evaluation.results import SCORES_VERSION
from sentidistill_jax.evaluation.task import Item, Task
from sentidistill_jax.workdir import Workdir

HELD_OUT = "held_out/"

ExampleKey = tuple[str, str]  # seed of the demonstrations ("" without), id in the set
Line = Mapping[str, Any]  # of predictions.jsonl


@dataclasses.dataclass(frozen=True)
class Score:
    """F1 of a model on a set, or a mean over sets, and what belongs to it; in percent."""

    value: float
    interval: tuple[float, float] | None = None  # 95 %, over examples
    deviation: float | None = None  # over seeds
    auc: float | None = None  # area under the ROC curve of a binary set


@dataclasses.dataclass(frozen=True)
class ModelScores:
    """The stored evaluation of one model."""

    name: str  # as reports show it, distinct over all runs
    run: str  # name of its working directory
    directory: pathlib.Path
    scores: Mapping[str, Any]  # scores.json
    benchmarks: tuple[Benchmark, ...] = ()  # whose sets it was asked

    @property
    def sets(self) -> dict[str, Mapping[str, Any]]:
        """Set -> its scores, in the order they were asked."""
        return self.scores["sets"]

    def examples(self, set_name: str) -> int | None:
        """Returns how many examples of a set were scored; None if that is not known."""
        return self.sets.get(set_name, {}).get("examples")

    def score(self, set_name: str, variant: str | None = None) -> Score | None:
        """Returns the score of a set, or of a variant of it; None if there is none."""
        entry = self.sets.get(set_name)
        if entry is not None and variant is not None:
            entry = entry.get("variants", {}).get(variant)
        if entry is None:
            return None
        ends, deviation, auc = (entry.get(name) for name in ("interval_95", "deviation", "auc"))
        return Score(
            100 * entry["f1"],
            (100 * ends[0], 100 * ends[1]) if ends else None,
            None if deviation is None else 100 * deviation,
            None if auc is None else 100 * auc,
        )

    def mean(self, benchmark: Benchmark, name: str) -> Score | None:
        """Returns the mean over a category of a benchmark, or its `average`; None if not known.

        It is known only where all of every test split was asked: no other mean may be compared.
        """
        summary = self.scores.get(benchmark.name) or {}
        if not summary.get("complete"):
            return None
        if name != "average":
            value = summary.get("categories", {}).get(name)
            return None if value is None else Score(100 * value)
        deviation = summary.get("deviation")
        return Score(
            100 * summary["average"], deviation=None if deviation is None else 100 * deviation
        )

    @functools.cached_property
    def predictions(self) -> dict[str, dict[ExampleKey, Line]]:
        """Set -> example -> its line; empty without predictions.jsonl."""
        found: dict[str, dict[ExampleKey, Line]] = {}
        for line in _json_lines(self.directory / "predictions.jsonl"):
            key = (str(line.get("seed", "")), str(line["id"]))
            found.setdefault(line["set"], {})[key] = line
        return found


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """The metrics of one training run."""

    name: str
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]  # metric -> steps, values


def find_task(benchmarks: Iterable[Benchmark], set_name: str) -> tuple[Benchmark, Task] | None:
    """Returns the benchmark and the task whose set it is; None for a held-out set."""
    for benchmark in benchmarks:
        task = benchmark.tasks.get(set_name.removeprefix(f"{benchmark.name}/"))
        if task is not None and set_name == benchmark.set_name(task.name):
            return benchmark, task
    return None


def variants(models: Sequence[ModelScores], set_name: str) -> list[str]:
    """Returns the other ways in which the answers of any model to a set were scored."""
    asked = (model.sets[set_name] for model in models if set_name in model.sets)
    return list(dict.fromkeys(name for of_set in asked for name in of_set.get("variants", ())))


def read_scores(
    workdirs: Sequence[pathlib.Path], benchmarks: Mapping[str, Benchmark] = BENCHMARKS
) -> list[ModelScores]:
    """Reads every evaluated model of some working directories, in order of evaluation.

    Args:
      workdirs: Working directories.
      benchmarks: Those whose sets are known as such; sets of others count as held-out.

    Raises:
      FileNotFoundError: If a working directory holds none.
      ValueError: If a file of scores is not of a known format.
    """
    models = []
    for workdir, run in zip(workdirs, _names(workdirs), strict=True):
        paths = sorted(
            workdir.glob("evaluation/*/scores.json"), key=lambda path: path.stat().st_mtime_ns
        )
        if not paths:
            raise FileNotFoundError(
                f"{workdir}/evaluation holds no scores.json; run `sentidistill evaluate` first."
            )
        prefix = f"{run}/" if len(workdirs) > 1 else ""
        for path in paths:
            scores = _read_scores_file(path)
            asked = tuple(
                benchmark
                for benchmark in benchmarks.values()
                if scores.get(benchmark.name)
                or any(find_task([benchmark], name) for name in scores["sets"])
            )
            models.append(ModelScores(prefix + scores["model"], run, path.parent, scores, asked))
    return models


def read_training(workdirs: Sequence[pathlib.Path]) -> list[TrainingRun]:
    """Reads every training run of some working directories that has metrics, sorted by name."""
    runs = []
    for workdir, run in zip(workdirs, _names(workdirs), strict=True):
        prefix = f"{run}/" if len(workdirs) > 1 else ""
        for path in sorted(workdir.glob("students/*/metrics.jsonl")):
            series: dict[str, tuple[list[float], list[float]]] = {}
            for line in _json_lines(path):
                for name, value in line.items():
                    if name != "step" and isinstance(value, int | float):
                        steps, values = series.setdefault(name, ([], []))
                        steps.append(line["step"])
                        values.append(value)
            if series:
                runs.append(TrainingRun(prefix + path.parent.name, series))
    return runs


class Texts:
    """Looks up the text of an example, as far as its source is at hand.

    Args:
      workdirs: Working directories whose held-out texts are known.
      data_dirs: Name of a benchmark -> folder of its files.
      benchmarks: The benchmarks by name.
    """

    def __init__(
        self,
        workdirs: Sequence[pathlib.Path],
        data_dirs: Mapping[str, pathlib.Path],
        benchmarks: Mapping[str, Benchmark] = BENCHMARKS,
    ):
        self._held_out: dict[str, str] = {}
        for workdir in workdirs:
            path = Workdir(workdir).texts / "held_out.jsonl"
            if path.is_file():
                self._held_out |= {text.id: text.text for text in read_records(path, UserText)}
        self._data_dirs = data_dirs
        self._benchmarks = benchmarks

    def find(self, set_name: str, example_id: str) -> str | None:
        """Returns the text of an example of a set; None if it is not at hand."""
        if find_task(self._benchmarks.values(), set_name) is None:
            return self._held_out.get(example_id)
        _, items = self.test_items(set_name) or (None, ())
        known = example_id.isdecimal() and int(example_id) < len(items)
        return items[int(example_id)]["sentence"] if known else None

    @functools.cache  # noqa: B019 - lives as long as the report
    def test_items(self, set_name: str) -> tuple[Task, tuple[Item, ...]] | None:
        """Returns the task of a benchmark's set and its test items; None if not at hand."""
        found = find_task(self._benchmarks.values(), set_name)
        if found is None or found[0].name not in self._data_dirs:
            return None
        benchmark, task = found
        return task, benchmark.read(task, "test", self._data_dirs[benchmark.name])


def _names(workdirs: Iterable[pathlib.Path]) -> list[str]:
    """The directories' own names, or their paths where two have the same."""
    workdirs = [workdir.resolve() for workdir in workdirs]
    names = [workdir.name for workdir in workdirs]
    return names if len(set(names)) == len(names) else [str(workdir) for workdir in workdirs]


def _read_scores_file(path: pathlib.Path) -> dict[str, Any]:
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
        version = scores["schema_version"]
        if version == SCORES_VERSION:
            _ = [(of_set["f1"], of_set["metric"]) for of_set in scores["sets"].values()]
            str(scores["model"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} holds no scores ({error!r}); evaluate the model again."
        ) from error
    if version != SCORES_VERSION:
        raise ValueError(
            f"{path} has schema_version={version}, expected {SCORES_VERSION};"
            " evaluate the model again."
        )
    return scores


def _json_lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Objects of a JSON-lines file; a line that a kill cut short is left out."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue
