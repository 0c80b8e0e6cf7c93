"""sentidistill predict: label texts, one JSON line per text.

Texts come from --text (may be repeated) or from standard input, one a line.
"""

import json
import sys

from absl import flags

from sentidistill_jax.cli import common
from sentidistill_jax.cli.main import Verb


def _flags(values: flags.FlagValues) -> None:
    common.define_workdir(values)
    flags.DEFINE_string(
        "model", None, "students/NAME of the workdir, a Hugging Face directory or a GGUF file.",
        required=True, flag_values=values,
    )  # fmt: skip
    flags.DEFINE_multi_string("text", [], "A text to label.", flag_values=values)
    flags.DEFINE_string("task", "sentiment", "A label task of the corpus.", flag_values=values)


def _run(values: flags.FlagValues) -> None:
    from sentidistill_jax.stages.predict import predict

    texts = values.text or [line.strip() for line in sys.stdin if line.strip()]
    for line in predict(values.model, common.workdir(values), texts, task=values.task):
        print(json.dumps(line))


VERB = Verb(_flags, _run)
