"""sentidistill train: teacher cache to student.

Trains --config.name from the cache of --config.stage, resumes from its newest checkpoint, and
writes the student as a Hugging Face directory under workdir/students/NAME/model.
"""

from absl import flags

from sentidistill_jax.cli import common
from sentidistill_jax.cli.main import Verb
from sentidistill_jax.cpu_workarounds import keep_freed_memory


def _flags(values: flags.FlagValues) -> None:
    common.define_config(values, "knowdist")


def _run(values: flags.FlagValues) -> None:
    keep_freed_memory()
    from sentidistill_jax import api

    print(api.train(values.config, values.workdir))


VERB = Verb(_flags, _run)
