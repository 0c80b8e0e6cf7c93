"""Stage `predict`: texts to a label each, with the share of every label."""

import csv
import dataclasses
import io
import itertools
import json
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from sentidistill_jax.growing_file import GrowingFile
from sentidistill_jax.inference.label_prompts import (
    LabelPrompt,
    known_label_prompts,
    load_label_prompts,
)
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.models.load import load_model
from sentidistill_jax.settings import float_dtype
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.text_rows import Row, read_rows
from sentidistill_jax.workdir import Workdir

_BLOCK = 1024  # rows that are labelled together, those of like length in one batch, then written
_NAMED = 20  # rows without a label that the end of a run names

Prediction = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Labeller:
    """A model that is asked one task."""

    model: LocalModel
    prompt: LabelPrompt
    calibrate: bool  # whether shares are those without the model's bias towards a label

    @classmethod
    def load(
        cls,
        source: str,
        workdir: Workdir,
        task: str,
        *,
        calibrate: bool = True,
        dtype: str = "float32",
    ) -> "Labeller":
        """Loads a model.

        Args:
          source: `students/NAME`, or any model that can be loaded; an exported one brings its
            prompts and what is known of its bias.
          workdir: Where the student was trained.
          task: One of its label tasks.
          calibrate: Whether its bias towards a label is taken out, where it is known.
          dtype: Of products: float32 or bfloat16.

        Raises:
          FileNotFoundError: If there is no such model.
          ValueError: If it has no such task.
        """
        path = workdir.model_source(source)
        prompts = load_label_prompts(pathlib.Path(path)) or known_label_prompts()
        if task not in prompts:
            raise ValueError(f"task={task!r} must be one of {sorted(prompts)}.")
        mesh = make_mesh({"data": -1})
        loaded = load_model(path, mesh, dtype=float_dtype("dtype", dtype))
        return cls(LocalModel.on_mesh(loaded, mesh), prompts[task], calibrate)

    def label(self, texts: Sequence[str]) -> list[Prediction]:
        """Per text `label`, and `probs`: label -> its share; or `error`, why it has no label."""
        labels, room = self.prompt.labels, self.model.max_position
        prompts = [self.prompt.about(text) for text in texts]
        lengths = self.model.prompt_lengths(prompts)
        fits = [length <= room for length in lengths]
        asked = list(itertools.compress(prompts, fits))
        scores = self.model.label_logprobs(asked, self.prompt.words)
        shares = iter(self.prompt.probs(scores, calibrate=self.calibrate))
        predictions: list[Prediction] = []
        for length, fit in zip(lengths, fits, strict=True):
            if not fit:
                error = f"a prompt of {length} tokens, and the model has room for {room}"
                predictions.append({"error": error})
                continue
            row = next(shares)
            probs = {one: round(float(p), 4) for one, p in zip(labels, row, strict=True)}
            predictions.append({"label": labels[int(row.argmax())], "probs": probs})
        return predictions

    def predict(self, texts: Sequence[str]) -> Iterator[Prediction]:
        """Yields in the order of the texts `text` and what `label` says of it."""
        for start in range(0, len(texts), _BLOCK):
            block = texts[start : start + _BLOCK]
            for text, prediction in zip(block, self.label(block), strict=True):
                yield {"text": text, **prediction}


def predict(
    source: str, workdir: Workdir, texts: Sequence[str], *, task: str, **options: Any
) -> Iterator[Prediction]:
    """Yields in the order of the texts `text` and what `Labeller.label` says of it.

    Args:
      source: `students/NAME`, or any model that can be loaded.
      workdir: Where the student was trained.
      texts: At least one.
      task: One of the model's label tasks.
      **options: Further arguments of `Labeller.load`.

    Raises:
      ValueError: If there is no such task, or no text.
    """
    if not texts:
        raise ValueError(
            "there is no text to label; pass --text, --input or lines on standard input."
        )
    yield from Labeller.load(source, workdir, task, **options).predict(texts)


@dataclasses.dataclass(frozen=True)
class Summary:
    """What became of the rows of a file."""

    rows: int
    without_label: int
    first_without: tuple[str, ...]  # "line 3: why", of the first of them
    texts_per_second: float  # of this run, compilation included

    def __str__(self) -> str:
        """Lines for people."""
        lines = [f"{self.rows} rows, {self.texts_per_second:.0f} texts/s"]
        if self.without_label:
            lines.append(f"{self.without_label} rows have no label:")
            lines += [f"  {one}" for one in self.first_without]
            if self.without_label > len(self.first_without):
                lines.append("  ... the output's field `error` has them all")
        return "\n".join(lines)


def predict_file(
    load: Callable[[], Labeller], source: pathlib.Path, output: pathlib.Path, *, column: str
) -> Summary:
    """Labels the texts of a file; what is labelled when it is stopped need not be labelled again.

    The output has one row per row of the input, in its order: `line`, `text`, and `label` with the
    share of every label, or `error`. It has its name once it is whole.

    Args:
      load: Gives the model; called once the files are known to be fit for use.
      source: See `read_rows`.
      output: A .jsonl or .csv file that does not exist.
      column: Of the texts.

    Raises:
      FileNotFoundError: If there is no input.
      ValueError: If a file is of a kind or in a state that cannot be used.
    """
    if output.suffix not in _FORMATS:
        raise ValueError(f"output {str(output)!r} must end in {' or '.join(_FORMATS)}.")
    if output.exists():
        raise ValueError(f"output {str(output)!r} exists already; choose another or remove it.")
    rows = read_rows(source, column)
    first = list(itertools.islice(rows, 1))
    if not first:
        raise ValueError(f"{source} holds no text; check --input.")
    labeller = load()
    file = GrowingFile(output, _made_from(labeller, source, column))
    start = time.perf_counter()
    done = before = file.state or {"rows": 0, "without_label": 0, "first_without": []}
    if before["rows"]:
        print(f"predict: {before['rows']} rows are labelled already; going on behind them")
    rows = itertools.islice(itertools.chain(first, rows), before["rows"], None)
    with file, tqdm(desc="predict", unit="text", initial=before["rows"]) as bar:
        for block in iter(lambda: list(itertools.islice(rows, _BLOCK)), []):
            predictions = _label_rows(labeller, block)
            header = not done["rows"]
            done = _counted(done, predictions)
            lines = _FORMATS[output.suffix](predictions, labeller.prompt.labels, header)
            file.append(lines, done)
            bar.update(len(block))
        file.finish()
    speed = (done["rows"] - before["rows"]) / (time.perf_counter() - start)
    return Summary(
        done["rows"], done["without_label"], tuple(done["first_without"]), texts_per_second=speed
    )


def _made_from(labeller: Labeller, source: pathlib.Path, column: str) -> dict[str, Any]:
    """What decides the labels of a file."""
    return {
        "input": str(source.resolve()),
        "input_bytes": source.stat().st_size,
        "column": column,
        "model": labeller.model.origin,
        "prompt": dataclasses.asdict(labeller.prompt),
        "calibrate": labeller.calibrate,
    }


def _label_rows(labeller: Labeller, rows: Sequence[Row]) -> list[Prediction]:
    labelled = iter(labeller.label([row.text for row in rows if not row.error]))
    return [
        {"line": row.line, "error": row.error}
        if row.error
        else {"line": row.line, "text": row.text, **next(labelled)}
        for row in rows
    ]


def _counted(done: Mapping[str, Any], predictions: Sequence[Prediction]) -> dict[str, Any]:
    without = [f"line {one['line']}: {one['error']}" for one in predictions if "error" in one]
    return {
        "rows": done["rows"] + len(predictions),
        "without_label": done["without_label"] + len(without),
        "first_without": [*done["first_without"], *without][:_NAMED],
    }


def _json_lines(predictions: Sequence[Prediction], labels: Sequence[str], header: bool) -> str:
    del labels, header
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in predictions)


def _csv_lines(predictions: Sequence[Prediction], labels: Sequence[str], header: bool) -> str:
    lines = io.StringIO()
    columns = ["line", "text", "label", *(f"p_{label}" for label in labels), "error"]
    writer = csv.DictWriter(lines, columns, lineterminator="\n", extrasaction="ignore")
    if header:
        writer.writeheader()
    for one in predictions:
        shares = {f"p_{label}": share for label, share in one.get("probs", {}).items()}
        writer.writerow({**one, **shares})
    return lines.getvalue()


_FORMATS = {".jsonl": _json_lines, ".csv": _csv_lines}
