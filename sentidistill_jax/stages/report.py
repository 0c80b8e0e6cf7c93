"""Stage `report`: the models of some working directories in a table, a plot and a page."""

import os
import pathlib
from collections.abc import Sequence

from sentidistill_jax.evaluation.data import DATA_DIR_VARIABLE
from sentidistill_jax.evaluation.grid import FORMATS, Format
from sentidistill_jax.reporting.compare import Comparison, compare
from sentidistill_jax.reporting.page import render_page
from sentidistill_jax.reporting.plot import plot
from sentidistill_jax.reporting.runs import Model, Texts, read_scores, read_training
from sentidistill_jax.reporting.tables import table

_TABLE_FILES: dict[Format, str] = {
    "text": "table.txt",
    "markdown": "table.md",
    "latex": "table.tex",
}


def report(
    workdirs: Sequence[pathlib.Path],
    output: pathlib.Path,
    *,
    format: Format = "markdown",
    reference: str | None = None,
    num_examples: int = 5,
) -> str:
    """Writes the table, scores.png and report.html under `output`.

    Args:
      workdirs: Working directories of the runs to compare.
      output: Folder of the files; made if needed.
      format: Of the table.
      reference: Name of the model that the others are compared with; the first one if None.
      num_examples: Most examples won, and most lost, that the page shows of a comparison.

    Returns:
      The table.

    Raises:
      FileNotFoundError: If a working directory holds no scores.
      ValueError: If there is no such format or reference, or a file is not what it should be.
    """
    if format not in FORMATS:
        raise ValueError(f"format={format!r}, expected one of {', '.join(FORMATS)}.")
    if num_examples < 0:
        raise ValueError(f"num_examples={num_examples}, expected 0 or more.")
    models = read_scores(workdirs)
    base = _find(models, reference)
    comparisons = compare(models, base, _texts(workdirs), num_examples=num_examples)
    page = render_page(models, read_training(workdirs), base, comparisons)
    rendered = table(models, format)
    output.mkdir(parents=True, exist_ok=True)
    (output / _TABLE_FILES[format]).write_text(rendered + "\n", encoding="utf-8")
    (output / "report.html").write_text(page, encoding="utf-8")
    plot(models, output / "scores.png")
    return rendered


def against(workdir: pathlib.Path, name: str, reference: str) -> dict[str, Comparison]:
    """Paired tests of one evaluated model against another, by set.

    Raises:
      ValueError: If one was not evaluated, or they have no example in common.
    """
    models = read_scores([workdir])
    model, base = _find(models, name), _find(models, reference)
    found = compare([model], base, _texts([workdir]), num_examples=0)
    if not found:
        raise ValueError(
            f"{name!r} and {reference!r} have no predictions for the same examples; evaluate two"
            " models on the same sets."
        )
    return {set_name: comparison for (_, set_name), comparison in found.items()}


def _texts(workdirs: Sequence[pathlib.Path]) -> Texts:
    bench = os.environ.get(DATA_DIR_VARIABLE)
    return Texts(workdirs, pathlib.Path(bench) if bench else None)


def _find(models: Sequence[Model], name: str | None) -> Model:
    if name is None:
        return models[0]
    for model in models:
        if model.name == name:
            return model
    raise ValueError(
        f"reference={name!r} is not an evaluated model; choose one of"
        f" {', '.join(model.name for model in models)}."
    )
