"""What the teacher's cached distributions are worth over its text alone, at equal data.

sentidistill sweep --config=configs/studies/targets.py --space=configs/studies/targets.py \
    --workers=1 --workdir=workdir/demo

Both stages learn the demo's KnowDist answers and 256 labels: with the teacher's distributions as
the demo does, with the label words' alone, or the text alone, as supervised fine-tuning does.
"""

from typing import Any

from configs import _arguments, demo
from configs.studies._shared import GOALS, LABELS
from sentidistill_jax.sweep.space import Step, Study, Variant


def get_config(arguments: str = "") -> Any:
    """The demo's run on few labels; with `knowdist` the stage before it."""
    names = _arguments.parse(arguments, ("knowdist",))
    config = demo.get_config(_arguments.SMOKE if _arguments.SMOKE in names else "")
    if "knowdist" in names:
        return config.knowdist
    config.icldist_256.student.source = "students/knowdist"
    return config.icldist_256


def get_space() -> Study:
    """Three arms, three seeds of both stages."""
    return Study(
        arms={
            "distributions": Variant(),
            "label words": Variant({"objective.alpha": 0.0}),
            "text alone": Variant({"objective.alpha": 0.0, "train:objective.label_weight": 0.0}),
        },
        control="text alone",
        steps=(Step("train", "knowdist", f"{__file__}:knowdist"), *LABELS),
        goals=GOALS,
    )
