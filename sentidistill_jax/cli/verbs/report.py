"""sentidistill report: compares runs; scores to a table, a plot and a page.

sentidistill report RUN [RUN ...] writes report.html, scores.png and the table, which it prints.
"""

import pathlib

from absl import flags

from sentidistill_jax.cli.main import Verb
from sentidistill_jax.evaluation.text_table import FORMATS


def _flags(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string(
        "workdir", ["workdir"], "Working directory; name several to compare runs.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "output", None, "Folder that gets the files; by default report/ in the first run.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_enum("format", "markdown", FORMATS, "Format of the table.", flag_values=values)
    flags.DEFINE_string(
        "reference", None, "Model that the others are compared with; by default the first.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "examples", 5, "Most examples won, and most lost, of each comparison.", lower_bound=0,
        flag_values=values,
    )  # fmt: skip


def _run(values: flags.FlagValues) -> None:
    from sentidistill_jax.stages.report import report

    workdirs = [pathlib.Path(workdir) for workdir in values.workdir]
    output = pathlib.Path(values.output) if values.output else workdirs[0] / "report"
    print(
        report(
            workdirs,
            output,
            format=values.format,
            reference=values.reference,
            num_examples=values.examples,
        )
    )
    print(f"\nwritten to {output}; open {output}/report.html")


VERB = Verb(_flags, _run, words="workdir")
