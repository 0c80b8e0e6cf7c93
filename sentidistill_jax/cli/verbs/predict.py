"""sentidistill predict: label texts of a file, or a few of them.

A file (--input) is labelled row by row into another (--output). Without one, texts come from --text
(may be repeated) or from standard input, one a line, and each becomes a JSON line.
"""

import functools
import json
import pathlib
import sys

from absl import flags

from sentidistill_jax.cli import common
from sentidistill_jax.cli.main import Verb
from sentidistill_jax.corpus import icldist


def _flags(values: flags.FlagValues) -> None:
    common.define_workdir(values)
    flags.DEFINE_string(
        "model", None,
        "students/NAME of the workdir, an exported student or other Hugging Face directory, or a"
        " GGUF file.",
        required=True, flag_values=values,
    )  # fmt: skip
    tasks = [name for name, task in icldist.TASKS.items() if task.labels and not task.subject]
    flags.DEFINE_string(
        "task", "sentiment",
        f"What is asked: one of {', '.join(tasks)}; of an exported student, one of its own.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_multi_string("text", [], "A text to label.", flag_values=values)
    flags.DEFINE_string(
        "input", None, "File of texts: .txt, .jsonl or .csv, each also with .gz behind its name.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "column", "text", "Column of the texts in a .csv or .jsonl file.", flag_values=values
    )
    flags.DEFINE_string(
        "output", None,
        "File to write, .jsonl or .csv; the same command goes on where it was stopped.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_boolean(
        "calibrate", True,
        "Take out the bias towards a label; only exported students know theirs.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_enum(
        "dtype", "float32", ["float32", "bfloat16"], "Dtype of products.", flag_values=values
    )


def _run(values: flags.FlagValues) -> None:
    if (values.input is None) != (values.output is None):
        raise ValueError("--input and --output go together; pass both or neither.")
    if values.input is not None and values.text:
        raise ValueError("--text and --input are two sources of texts; pass one of them.")
    from sentidistill_jax.stages import predict

    workdir = common.workdir(values)
    options = {"task": values.task, "calibrate": values.calibrate, "dtype": values.dtype}
    if values.input is not None:
        load = functools.partial(predict.Labeller.load, values.model, workdir, **options)
        files = pathlib.Path(values.input), pathlib.Path(values.output)
        print(predict.predict_file(load, *files, column=values.column), file=sys.stderr)
        return
    texts = values.text or [line.strip() for line in sys.stdin if line.strip()]
    for prediction in predict.predict(values.model, workdir, texts, **options):
        print(json.dumps(prediction))


VERB = Verb(_flags, _run)
