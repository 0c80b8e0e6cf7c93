"""sentidistill demo: distil the embedded teacher on a laptop and measure what came over.

Texts, the teacher's labels, KnowDist and ICLDist corpora and caches, three students (KnowDist
alone, ICLDist alone, both), and macro-F1 on held-out human-labelled texts before and after.
Interrupt it at any time; the same command goes on where it was.
"""

from absl import flags

from sentidistill_jax.cli import common
from sentidistill_jax.cli.main import Verb


def _flags(values: flags.FlagValues) -> None:
    common.define_config(values, "configs/demo.py")


def _run(values: flags.FlagValues) -> None:
    from sentidistill_jax.stages.demo import demo

    demo(values.config, common.workdir(values))


VERB = Verb(_flags, _run)
