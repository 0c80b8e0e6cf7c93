"""Stage `report`: all scores of some working directories in one table and one plot."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402 - the backend comes first


def read_scores(workdirs: Sequence[pathlib.Path]) -> list[dict[str, Any]]:
    """The scores of every evaluated model, in order of evaluation.

    Raises:
      FileNotFoundError: If a working directory holds none.
    """
    found = []
    for workdir in workdirs:
        paths = sorted(
            workdir.glob("evaluation/*/scores.json"), key=lambda path: path.stat().st_mtime_ns
        )
        if not paths:
            raise FileNotFoundError(
                f"{workdir}/evaluation holds no scores.json; run `sentidistill evaluate` first."
            )
        prefix = f"{workdir.name}/" if len(workdirs) > 1 else ""
        for path in paths:
            scores = json.loads(path.read_text())
            found.append(scores | {"model": prefix + scores["model"]})
    return found


def markdown_table(scores: Sequence[dict[str, Any]]) -> str:
    """F1 in percent with its 95 % interval, a row per model and a column per set."""
    sets = list(dict.fromkeys(name for model in scores for name in model["sets"]))
    sizes = {name: model["sets"][name]["examples"] for model in scores for name in model["sets"]}
    header = [
        "F1, %",
        *(f"{name.removeprefix('held_out/')} ({sizes[name]})" for name in sets),
    ]
    rows = [header, ["---"] * len(header)]
    for model in scores:
        cells = [model["model"]]
        for name in sets:
            of_set = model["sets"].get(name)
            if of_set is None:
                cells.append("")
                continue
            low, high = of_set["interval_95"]
            cells.append(f"{100 * of_set['f1']:.1f} [{100 * low:.1f}, {100 * high:.1f}]")
        rows.append(cells)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def plot(scores: Sequence[dict[str, Any]], path: pathlib.Path) -> None:
    """Bars of F1 by set and model, with 95 % intervals."""
    sets = list(dict.fromkeys(name for model in scores for name in model["sets"]))
    width = 0.8 / len(scores)
    figure, axes = plt.subplots(figsize=(max(7.0, 1.6 * len(sets)), 4.2), layout="constrained")
    for index, model in enumerate(scores):
        at, values, low, high = [], [], [], []
        for position, name in enumerate(sets):
            if name not in model["sets"]:
                continue
            value = 100 * model["sets"][name]["f1"]
            ends = [100 * end for end in model["sets"][name]["interval_95"]]
            at.append(position + (index - (len(scores) - 1) / 2) * width)
            values.append(value)
            low.append(max(0.0, value - ends[0]))
            high.append(max(0.0, ends[1] - value))
        axes.bar(at, values, width, yerr=[low, high], label=model["model"], error_kw={"lw": 0.8})
    axes.set_xticks(range(len(sets)), [name.replace("/", "\n", 1) for name in sets])
    axes.set_ylabel("F1, %")
    axes.set_ylim(0, 100)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def report(workdirs: Sequence[pathlib.Path], output: pathlib.Path) -> str:
    """Writes table.md and scores.png under `output` and returns the table."""
    scores = read_scores(workdirs)
    table = markdown_table(scores)
    output.mkdir(parents=True, exist_ok=True)
    (output / "table.md").write_text(table + "\n")
    plot(scores, output / "scores.png")
    return table
