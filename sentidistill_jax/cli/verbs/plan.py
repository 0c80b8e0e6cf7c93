"""sentidistill plan: what a config needs on a topology, compiled for it on any machine.

Compiles the training step of --config (or the teacher's forward pass, --workload=teach) for
--topology, without an accelerator and without weights: peak memory per device, what takes it,
collectives with their bytes, and an estimate of step time and of the whole run. Where it does not
fit, changes are tried until one does. Needs libtpu: pip install 'sentidistill-jax[tpu]'.
"""

import json
import os
import pathlib

from absl import flags

from sentidistill_jax.cli import common
from sentidistill_jax.cli.main import Verb


def _flags(values: flags.FlagValues) -> None:
    common.define_config(values, "pod")
    flags.DEFINE_string(
        "topology",
        None,
        "CHIP:SHAPE of one slice, such as v5e:16x16, v5p:4x4x4, v6e:4x4, v4:2x2x1; 2xv5e:16x16 is"
        " two slices.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_enum(
        "workload", "train", ["train", "teach"], "What is planned.", flag_values=values
    )
    flags.DEFINE_integer("steps", 0, "Steps of the whole run.", 0, flag_values=values)
    flags.DEFINE_float(
        "run_tokens", 0.0, "Tokens of the whole run instead of --steps.", 0.0, flag_values=values
    )
    flags.DEFINE_integer(
        "search", 0, "Find the fastest setting, compiling at most so many.", 0, flag_values=values
    )
    flags.DEFINE_bool(
        "fallbacks", True, "Try changes where the config does not fit.", flag_values=values
    )
    flags.DEFINE_float("price", 0.0, "Price of one chip for one hour.", 0.0, flag_values=values)
    flags.DEFINE_string("currency", "", "Currency of --price.", flag_values=values)
    flags.DEFINE_string("output", "", "JSON file for the plan.", flag_values=values)
    flags.DEFINE_string(
        "cache_dir",
        "",
        "Where compiled reports are kept.",
        flag_values=values,
    )


def _run(values: flags.FlagValues) -> None:
    # A plan never touches the accelerators of the machine it is made on.
    os.environ["JAX_PLATFORMS"] = "cpu"
    from sentidistill_jax.artifact import write_json
    from sentidistill_jax.planner.topology import Topology
    from sentidistill_jax.stages.plan import PlanOptions, plan

    options = PlanOptions(
        workload=values.workload,
        steps=values.steps,
        run_tokens=values.run_tokens,
        search=values.search,
        fallbacks=values.fallbacks,
        price_per_chip_hour=values.price,
        currency=values.currency,
        cache=pathlib.Path(values.cache_dir) if values.cache_dir else None,
    )
    made = plan(values.config, common.workdir(values), Topology.parse(values.topology), options)
    if values.output:
        write_json(pathlib.Path(values.output), json.loads(json.dumps(made)))


VERB = Verb(_flags, _run)
