"""sentidistill report: scores of one or more runs to a Markdown table and a plot."""

import pathlib

from absl import flags

from sentidistill_jax.cli.main import Verb


def _flags(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string(
        "workdir", ["workdir"], "Working directory; repeat it to compare runs.", flag_values=values
    )
    flags.DEFINE_string(
        "output", None, "Where table.md and scores.png go; by default WORKDIR/report.",
        flag_values=values,
    )  # fmt: skip


def _run(values: flags.FlagValues) -> None:
    from sentidistill_jax.stages.report import report

    workdirs = [pathlib.Path(workdir) for workdir in values.workdir]
    output = pathlib.Path(values.output) if values.output else workdirs[0] / "report"
    print(report(workdirs, output))
    print(f"\nwritten to {output}/table.md and {output}/scores.png")


VERB = Verb(_flags, _run)
