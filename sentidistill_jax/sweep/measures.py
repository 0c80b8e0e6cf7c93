"""What a trial's folder tells of it: the metrics of training as they come, and all results."""

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from sentidistill_jax.workdir import Workdir

_LAST_SENTENCE = 400  # most characters of it


def looks(workdir: Workdir, student: str, metric: str) -> dict[int, float]:
    """Step -> a metric of a training run, as far as it is written; the last of equal steps."""
    found = {}
    for line in _json_lines(workdir.student(student) / "metrics.jsonl"):
        if metric in line:
            found[int(line["step"])] = float(line[metric])
    return found


def measures(workdir: Workdir, students: list[str]) -> dict[str, float]:
    """Every number that a trial has come to.

    Args:
      workdir: The trial's folder.
      students: Names of its training runs, in order; later ones overrule earlier ones.

    Returns:
      `train/loss`, `eval/mean_f1` and so on as training wrote them last, or as they were of the
      student that was exported; `parameters`; and of every evaluation, under its name,
      `NAME/SET/f1`, `NAME/SET/auc` and so on.
    """
    found: dict[str, float] = {}
    for student in students:
        directory = workdir.student(student)
        for line in _json_lines(directory / "metrics.jsonl"):
            found |= _numbers(line)
        found |= _numbers(_json(directory / "best.json"))
        found |= _numbers(_json(directory / "manifest.json").get("counts", {}))
    found.pop("step", None)
    for path in sorted(workdir.root.glob("evaluation/*/scores.json")):
        scores = _json(path)
        benchmarks = {name: value for name, value in scores.items() if _is_summary(value)}
        for name, entry in (scores["sets"] | benchmarks).items():
            found |= {
                f"{path.parent.name}/{name}/{key}": value for key, value in _numbers(entry).items()
            }
    return found


def last_sentence(log: pathlib.Path) -> str:
    """What a command said last: of a failure, why."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - 20_000, 0))
        lines = file.read().decode(errors="replace").replace("\r", "\n").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return said[-1].removeprefix("sentidistill: ")[:_LAST_SENTENCE] if said else ""


def _is_summary(value: Any) -> bool:
    return isinstance(value, Mapping) and "average" in value


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _json(path: pathlib.Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def _json_lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Objects of a file that may be written at this moment."""
    if not path.is_file():
        return
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue  # not complete yet
