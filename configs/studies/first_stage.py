"""What a first stage is worth before 256 labels: none, as much plain text, or KnowDist.

sentidistill sweep --config=configs/studies/first_stage.py --space=configs/studies/first_stage.py \
    --workers=1 --workdir=workdir/demo

All start from the same cut of the demo's teacher. Plain text is the control that tells what
KnowDist says of sentiment from what any text repairs: texts of the same sources, about as many
scored tokens as KnowDist's answers have, the same epochs and rate.
"""

from typing import Any

from configs import _arguments, demo
from configs.studies._shared import CORPUS, GOALS, LABELS
from sentidistill_jax.sweep.space import Step, Study, Variant

_KNOWDIST, _HEALING = f"{__file__}:knowdist", f"{__file__}:healing"


def get_config(arguments: str = "") -> Any:
    """The demo's run on few labels; with `healing` or `knowdist` the stage before it."""
    names = _arguments.parse(arguments, ("healing", "knowdist"))
    smoke = _arguments.SMOKE if _arguments.SMOKE in names else ""
    config = demo.get_config(smoke)
    if "healing" in names:
        run = config.knowdist
        run.stage = run.name = "healing"
        run.healing.max_texts = 700  # 25,000 tokens, as many as KnowDist's answers have
        run.data.scored_length = 200  # texts are longer than answers
        return run
    return config.knowdist if "knowdist" in names else config.icldist_256


def get_space() -> Study:
    """Three arms, three seeds of every stage."""
    plain_text = (
        *(Step(step.verb, f"{step.verb} texts", _HEALING, step.changes) for step in CORPUS),
        Step("train", "healing", _HEALING),
    )
    return Study(
        arms={
            "none": Variant({"train:student.source": "students/start"}, LABELS),
            "plain text": Variant(
                {"train:student.source": "students/healing"}, (*plain_text, *LABELS)
            ),
            "KnowDist": Variant(
                {"train:student.source": "students/knowdist"},
                (Step("train", "knowdist", _KNOWDIST), *LABELS),
            ),
        },
        control="none",
        goals=GOALS,
    )
