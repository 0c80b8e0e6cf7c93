"""What each stage is worth alone and after the other, with all of the demo's task prompts.

sentidistill sweep --config=configs/studies/stages.py --space=configs/studies/stages.py \
    --workers=1 --workdir=workdir/demo
"""

from typing import Any

from configs import _arguments, demo
from configs.studies._shared import GOALS, LABELS
from sentidistill_jax.sweep.space import Step, Study, Variant

_KNOWDIST = f"{__file__}:knowdist"


def get_config(arguments: str = "") -> Any:
    """The demo's run on all task prompts; with `knowdist` the stage before it."""
    names = _arguments.parse(arguments, ("knowdist",))
    config = demo.get_config(_arguments.SMOKE if _arguments.SMOKE in names else "")
    return config.knowdist if "knowdist" in names else config.both


def get_space() -> Study:
    """Three arms, three seeds of every stage; what the start itself reaches has no seed."""
    first = Step("train", "knowdist", _KNOWDIST)
    return Study(
        arms={
            "ICLDist alone": Variant({"train:student.source": "students/start"}, LABELS),
            "KnowDist alone": Variant(steps=(first, Step("evaluate", config=_KNOWDIST))),
            "both stages": Variant({"train:student.source": "students/knowdist"}, (first, *LABELS)),
        },
        control="ICLDist alone",
        goals=GOALS,
    )
