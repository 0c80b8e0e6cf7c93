"""sentidistill teach: prompts to the teacher's answers and its cached distributions.

Asks the teacher every prompt of --config.stage and writes its cache; killed anywhere, it goes on
with the first unfinished shard. Several processes that share the working directory divide the work.

--verify=DIR and --inspect=DIR look at a finished cache instead, without a config.
"""

import pathlib

from absl import flags

from sentidistill_jax.cli import common
from sentidistill_jax.cli.main import Verb


def _flags(values: flags.FlagValues) -> None:
    common.define_config(values, "knowdist")
    flags.DEFINE_string(
        "verify", None, "Cache to read whole: every shard, record, key and checksum.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "inspect", None, "Cache to describe: manifest, statistics, decoded examples.",
        flag_values=values,
    )  # fmt: skip


def _run(values: flags.FlagValues) -> None:
    if values.verify is not None or values.inspect is not None:
        from sentidistill_jax.reporting.cache_report import inspect_cache, verify_cache

        if values.verify is not None:
            print(verify_cache(pathlib.Path(values.verify)))
        if values.inspect is not None:
            print(inspect_cache(pathlib.Path(values.inspect)))
        return
    from sentidistill_jax import api

    api.teach(values.config, values.workdir)


VERB = Verb(_flags, _run)
