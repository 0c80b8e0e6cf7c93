"""sentidistill export: student to a Hugging Face directory that transformers or vLLM can serve."""

import pathlib

from absl import flags

from sentidistill_jax.cli import common
from sentidistill_jax.cli.main import Verb


def _flags(values: flags.FlagValues) -> None:
    common.define_workdir(values)
    flags.DEFINE_string(
        "model", None, "students/NAME of the workdir, a GGUF file, or an embedded model.",
        required=True, flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string("output", None, "Directory to write.", required=True, flag_values=values)
    flags.DEFINE_enum(
        "dtype", "float32", ["float32", "bfloat16"], "Dtype of the weights.", flag_values=values
    )


def _run(values: flags.FlagValues) -> None:
    from sentidistill_jax.distributed import is_process_zero
    from sentidistill_jax.stages.export import export_student

    output = pathlib.Path(values.output)
    export_student(values.model, common.workdir(values), output, dtype=values.dtype)
    if is_process_zero():
        print(output)


VERB = Verb(_flags, _run)
