"""sentidistill corpus: user texts and the teacher's labels to prompts.

Reads, cleans and guards the user texts; has the teacher label them, calibrated and averaged over
demonstrations; writes the prompts of --config.stage. What is finished is not done again.
"""

from absl import flags

from sentidistill_jax.cli import common
from sentidistill_jax.cli.main import Verb


def _flags(values: flags.FlagValues) -> None:
    common.define_config(values, "knowdist")


def _run(values: flags.FlagValues) -> None:
    from sentidistill_jax import api

    api.build_corpus(values.config, values.workdir)


VERB = Verb(_flags, _run)
