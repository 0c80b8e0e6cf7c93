"""sentidistill teach: prompts to the teacher's answers and its cached distributions.

Asks the teacher every prompt of --config.stage and writes its cache; killed anywhere, it goes on
with the first unfinished shard.
"""

from absl import flags

from sentidistill_jax.cli import common
from sentidistill_jax.cli.main import Verb


def _flags(values: flags.FlagValues) -> None:
    common.define_config(values, "configs/knowdist.py")


def _run(values: flags.FlagValues) -> None:
    from sentidistill_jax.stages.teacher import Teacher, teach

    teach(values.config, common.workdir(values), lambda: Teacher.load(values.config))


VERB = Verb(_flags, _run)
