"""sentidistill corpus: user texts and the teacher's labels to prompts.

Reads, cleans and guards the user texts; has the teacher label them, calibrated and averaged over
demonstrations; writes the prompts of --config.stage. What is finished is not done again.
"""

from absl import flags

from sentidistill_jax.cli import common
from sentidistill_jax.cli.main import Verb


def _flags(values: flags.FlagValues) -> None:
    common.define_config(values, "configs/knowdist.py")


def _run(values: flags.FlagValues) -> None:
    from sentidistill_jax.stages import corpus
    from sentidistill_jax.stages.teacher import Teacher

    corpus.check_stage(values.config)
    workdir = common.workdir(values)
    corpus.prepare_texts(values.config, workdir)
    corpus.annotate(values.config, workdir, lambda: Teacher.load(values.config))
    corpus.build_prompts(values.config, workdir)


VERB = Verb(_flags, _run)
