"""sentidistill sweep: many students from one teacher cache, searched or planned.

--space=FILE says what is tried, --config what all trials have in common. Each trial trains in its
own folder, WORKDIR/sweep/NAME/trials/N, from the texts and caches of WORKDIR. Killed or interrupted
anywhere, the same command goes on; docs/sweeps.md.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from sentidistill_jax.cli import common
from sentidistill_jax.cli.main import Verb
from sentidistill_jax.sweep.space import SAMPLERS, Space


def _flags(values: flags.FlagValues) -> None:
    common.define_config(values, "configs/icldist.py")
    flags.DEFINE_string(
        "space", None, "Python file whose get_space() returns a Space or a Study.",
        required=True, flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "name", None, "Name of the sweep; by default that of the file.", flag_values=values
    )
    flags.DEFINE_integer(
        "trials", None, "Trials to begin; by default all that are planned, 20 of a search.",
        lower_bound=1, flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "workers", 1, "Trials that run at a time.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_float(
        "budget_minutes", None, "Minutes of running trials, all workers together; by default no"
        " limit.", lower_bound=0, flag_values=values,
    )  # fmt: skip
    flags.DEFINE_enum(
        "sampler", "auto", SAMPLERS, "How a space is searched; auto: TPE, or NSGA-II for several"
        " goals.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer("sampler_seed", 0, "Of the sampler.", lower_bound=0, flag_values=values)
    flags.DEFINE_string(
        "storage", "", "Database URL of the sweep; by default a journal file in its folder.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool(
        "dry_run", False, "Print the trials and their changes, and stop.", flag_values=values
    )


def _run(values: flags.FlagValues) -> None:
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "sweeps need Optuna; install the extra: pip install 'sentidistill-jax[sweep]'."
        ) from error
    from sentidistill_jax.stages import sweep
    from sentidistill_jax.sweep.controller import Limits

    file = pathlib.Path(values.space)
    plan = sweep.read_plan(file)
    searched = isinstance(plan, Space) and values.sampler != "grid"
    trials = values.trials or (20 if searched else 1_000_000)
    flag = values["config"]
    one = sweep.Sweep(
        plan,
        values.name or file.stem,
        common.workdir(values),
        config_flags.get_config_filename(flag),
        config_flags.get_override_values(flag),
    )
    if values.dry_run:
        print(one.dry_run(trials, values.sampler, values.sampler_seed))
        return
    minutes = float("inf") if values.budget_minutes is None else values.budget_minutes
    limits = Limits(trials, values.workers, minutes)
    print(one.run(limits, storage=values.storage, sampler=values.sampler, seed=values.sampler_seed))


VERB = Verb(_flags, _run)
