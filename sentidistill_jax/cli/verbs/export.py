"""sentidistill export: student to a form that other programs can serve.

--format=transformers writes a Hugging Face directory that transformers, vLLM and `sentidistill
predict` take, with the prompts it was trained on, its chat template and its model card;
--format=classifier one that transformers.pipeline("text-classification") takes, for one --task;
--format=gguf a file that llama.cpp takes.
"""

import pathlib

from absl import flags

from sentidistill_jax.cli import common
from sentidistill_jax.cli.main import Verb


def _flags(values: flags.FlagValues) -> None:
    common.define_workdir(values)
    flags.DEFINE_string(
        "model", None,
        "students/NAME of the workdir, a Hugging Face directory, a GGUF file or an embedded model.",
        required=True, flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string("output", None, "What to write.", required=True, flag_values=values)
    flags.DEFINE_enum(
        "format", "transformers", ["transformers", "classifier", "gguf"], "Form of the output.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_enum(
        "dtype", "float32", ["float32", "bfloat16", "float16", "q8_0"],
        "Dtype of the weights; the last two, of which q8_0 has 8 bits, in GGUF files only.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "task", "sentiment", "What a classifier, or a student's chat, answers.", flag_values=values
    )
    flags.DEFINE_integer(
        "calibration_texts", 400,
        "Training texts that show a student's bias towards labels; 0: its labels stay as they are.",
        lower_bound=0, flag_values=values,
    )  # fmt: skip


def _run(values: flags.FlagValues) -> None:
    from sentidistill_jax.distributed import is_process_zero
    from sentidistill_jax.stages.export import export_student

    output = pathlib.Path(values.output)
    export_student(
        values.model, common.workdir(values), output, dtype=values.dtype, form=values.format,
        task=values.task, calibration_texts=values.calibration_texts,
    )  # fmt: skip
    if is_process_zero():
        print(output)


VERB = Verb(_flags, _run)
