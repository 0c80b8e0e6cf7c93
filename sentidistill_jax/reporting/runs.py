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
from sentidistill_jax.evaluation.data import read_split
from sentidistill_jax.evaluation.results import SCORES_VERSION
from sentidistill_jax.evaluation.tasks import TASKS
from sentidistill_jax.workdir import Workdir

SENTIBENCH = "sentibench/"
HELD_OUT = "held_out/"

ExampleKey = tuple[str, str]  # seed of the demonstrations ("" without), id in the set
Line = Mapping[str, Any]  # of predictions.jsonl


@dataclasses.dataclass(frozen=True)
class Model:
    """The stored evaluation of one model."""

    name: str  # as reports show it, distinct over all runs
    run: str  # name of its working directory
    directory: pathlib.Path
    scores: Mapping[str, Any]  # scores.json

    @property
    def sets(self) -> dict[str, Mapping[str, Any]]:
        """Set -> its scores, in the order they were asked."""
        return self.scores["sets"]

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


def variants(models: Sequence[Model], set_name: str) -> list[str]:
    """Other ways in which the answers of any of the models to a set were scored."""
    asked = (model.sets[set_name] for model in models if set_name in model.sets)
    return list(dict.fromkeys(name for of_set in asked for name in of_set.get("variants", ())))


def read_scores(workdirs: Sequence[pathlib.Path]) -> list[Model]:
    """Every evaluated model of some working directories, in order of evaluation.

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
            models.append(Model(prefix + scores["model"], run, path.parent, scores))
    return models


def read_training(workdirs: Sequence[pathlib.Path]) -> list[TrainingRun]:
    """Every training run of some working directories that has metrics, sorted by name."""
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
      workdirs: Their held-out texts are known.
      sentibench_dir: Folder of SentiBench, or None.
    """

    def __init__(self, workdirs: Sequence[pathlib.Path], sentibench_dir: pathlib.Path | None):
        self._held_out: dict[str, str] = {}
        for workdir in workdirs:
            path = Workdir(workdir).texts / "held_out.jsonl"
            if path.is_file():
                self._held_out |= {text.id: text.text for text in read_records(path, UserText)}
        self.sentibench_dir = sentibench_dir

    def find(self, set_name: str, example_id: str) -> str | None:
        """The text of an example of a set; None if it is not at hand."""
        if not set_name.startswith(SENTIBENCH):
            return self._held_out.get(example_id)
        texts = self._sentibench(set_name.removeprefix(SENTIBENCH))
        known = example_id.isdecimal() and int(example_id) < len(texts)
        return texts[int(example_id)] if known else None

    @functools.cache  # noqa: B019 - lives as long as the report
    def _sentibench(self, name: str) -> tuple[str, ...]:
        if self.sentibench_dir is None or name not in TASKS:
            return ()
        items = read_split(TASKS[name], "test", self.sentibench_dir)
        return tuple(item["sentence"] for item in items)


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
