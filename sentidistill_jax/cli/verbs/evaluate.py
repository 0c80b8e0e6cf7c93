"""sentidistill evaluate: macro-F1 on held-out human-labelled texts and on SentiBench's label tasks.

--model names what is scored: a trained student (students/NAME), a Hugging Face directory, a GGUF
file, an embedded model, or "teacher" for the calibrated few-shot teacher of the config.
"""

from absl import flags

from sentidistill_jax.cli import common
from sentidistill_jax.cli.main import Verb


def _flags(values: flags.FlagValues) -> None:
    common.define_config(values, "configs/knowdist.py")
    flags.DEFINE_string("model", None, "What to score.", required=True, flag_values=values)
    flags.DEFINE_string(
        "name", None, "Name of the scores; by default the model's.", flag_values=values
    )


def _run(values: flags.FlagValues) -> None:
    from sentidistill_jax.reporting.runs import read_scores
    from sentidistill_jax.reporting.tables import table
    from sentidistill_jax.stages import evaluate
    from sentidistill_jax.stages.students import take_whole
    from sentidistill_jax.stages.teacher import Teacher

    workdir = common.workdir(values)
    if values.model == "teacher":
        evaluate.evaluate_teacher(values.config, workdir, lambda: Teacher.load(values.config))
    else:
        config = values.config.copy_and_resolve_references()
        take_whole(config.student, values.model)
        name = values.name or values.model.rstrip("/").split("/")[-1]
        evaluate.evaluate_student(name, config, workdir)
    print(table(read_scores([workdir.root]), "markdown"))


VERB = Verb(_flags, _run)
