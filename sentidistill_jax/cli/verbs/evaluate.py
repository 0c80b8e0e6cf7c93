"""sentidistill evaluate: F1 on held-out human-labelled texts and on SentiBench.

--model names what is scored: a trained student (students/NAME), a Hugging Face directory, a GGUF
file, an embedded model, "endpoint" for the served model of --config.teacher.endpoint, "teacher" for
the few-shot teacher of the config, loaded or served, or "linear" for TF-IDF and logistic regression
on the teacher's labels and on human ones. Held-out texts are scored raw and, for the
teacher and models loaded here, calibrated, under NAME-calibrated. SentiBench is scored
where SENTIBENCH_DIR names its files; an interrupted evaluation goes on after the last data set.
--against=NAME also tests whether the model differs from another one that was evaluated.
"""

from absl import flags

from sentidistill_jax.cli import common
from sentidistill_jax.cli.main import Verb
from sentidistill_jax.evaluation.text_table import FORMATS


def _flags(values: flags.FlagValues) -> None:
    common.define_config(values, "knowdist")
    flags.DEFINE_string("model", None, "What to score.", required=True, flag_values=values)
    flags.DEFINE_string(
        "name", None, "Name of the scores; by default the model's.", flag_values=values
    )
    flags.DEFINE_string(
        "against", None, "Name of other scores of this workdir to test against.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_enum("format", "markdown", FORMATS, "Format of the table.", flag_values=values)


def _run(values: flags.FlagValues) -> None:
    from sentidistill_jax import api
    from sentidistill_jax.distributed import is_process_zero
    from sentidistill_jax.reporting.runs import read_scores
    from sentidistill_jax.reporting.tables import table
    from sentidistill_jax.settings import sentibench_dir
    from sentidistill_jax.stages.report import against, check_reference

    config, workdir = values.config, common.workdir(values)
    name = values.name or values.model.rstrip("/").split("/")[-1]
    if values.model == "teacher":
        name = "teacher-raw"
    elif values.model == "linear":
        name = "linear-teacher"
    # The teacher's calibrated scores come into being together with the raw ones.
    if values.against and (values.model, values.against) != ("teacher", "teacher-calibrated"):
        check_reference(workdir, name, values.against)

    api.evaluate(config, values.workdir, values.model, name=name)
    if not is_process_zero():
        return
    models = read_scores([workdir.root])
    print(table(models, values.format))
    if values.against:
        print(
            f"\n{name} against {values.against}: difference in F1, points, and its p-value,"
            " adjusted by Holm's method over these sets"
        )
        tests = against(workdir.root, name, values.against, sentibench_dir(config.texts))
        for set_name, test in tests.items():
            if test is None:
                print(f"{set_name:32} cannot be paired: other examples or other gold answers")
            else:
                difference, p_value = 100 * test.difference, f"p = {test.adjusted_p_value:.4f}"
                print(f"{set_name:32}{difference:+7.2f}  {p_value}  {test.examples} examples")


VERB = Verb(_flags, _run)
