"""Stage `report`: the models of some working directories in a table, a plot and a page."""

import os
import pathlib
from collections.abc import Sequence

from sentidistill_jax.evaluation.benchmarks import BENCHMARKS, SENTIBENCH
from sentidistill_jax.evaluation.text_table import FORMATS, Format
from sentidistill_jax.reporting.compare import Comparison, compare
from sentidistill_jax.reporting.page import render_page
from sentidistill_jax.reporting.runs import ModelScores, Texts, read_scores, read_training
from sentidistill_jax.reporting.tables import plot, table
from sentidistill_jax.workdir import Workdir

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
      format: Format of the table.
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
    folders = {
        benchmark.name: pathlib.Path(folder)
        for benchmark in BENCHMARKS.values()
        if (folder := os.environ.get(benchmark.data_dir_variable))
    }
    texts = Texts(workdirs, folders)
    comparisons = compare(models, base, texts, num_examples=num_examples)
    page = render_page(models, read_training(workdirs), base, comparisons)
    rendered = table(models, format)
    output.mkdir(parents=True, exist_ok=True)
    (output / _TABLE_FILES[format]).write_text(rendered + "\n", encoding="utf-8")
    (output / "report.html").write_text(page, encoding="utf-8")
    plot(models, output / "scores.png")
    return rendered


def check_reference(workdir: Workdir, name: str, reference: str) -> None:
    """Refuses what `against` would refuse, before the evaluation that it waits for.

    Raises:
      ValueError: If the model would be tested against itself, or the reference was not evaluated.
    """
    if reference == name:
        raise ValueError(f"{name!r} cannot be tested against itself; choose another name.")
    if not (workdir.evaluation(reference) / "scores.json").is_file():
        raise ValueError(
            f"{reference!r} is not an evaluated model of {workdir.root}; run `sentidistill"
            " evaluate` for it first."
        )


def against(
    workdir: pathlib.Path, name: str, reference: str, sentibench_dir: pathlib.Path | None
) -> dict[str, Comparison | None]:
    """Paired tests of one evaluated model against another.

    Args:
      workdir: Working directory of both.
      name: The model.
      reference: What it is tested against.
      sentibench_dir: Folder of SentiBench, without which OpeNER cannot be scored anew; or None.

    Returns:
      Set -> its test, of every set that both were asked. None if it cannot be paired: other
      examples, or other gold answers.

    Raises:
      ValueError: If one was not evaluated, or no set can be paired.
    """
    models = read_scores([workdir])
    model, base = _find(models, name), _find(models, reference)
    folders = {} if sentibench_dir is None else {SENTIBENCH.name: sentibench_dir}
    found = compare([model], base, Texts([workdir], folders), num_examples=0)
    if not found:
        raise ValueError(
            f"{name!r} and {reference!r} have no predictions for the same examples with the same"
            " gold answers; evaluate two models on the same sets."
        )
    return {
        set_name: found.get((name, set_name)) for set_name in model.sets if set_name in base.sets
    }


def _find(models: Sequence[ModelScores], name: str | None) -> ModelScores:
    if name is None:
        return models[0]
    for model in models:
        if model.name == name:
            return model
    raise ValueError(
        f"reference={name!r} is not an evaluated model; choose one of"
        f" {', '.join(model.name for model in models)}."
    )
