"""What a first stage is worth before 256 labels: none, as much plain text, or KnowDist.

sentidistill sweep --config=configs/studies/first_stage.py --space=configs/studies/first_stage.py \
    --workers=1 --workdir=workdir/demo

All start from the same cut of the demo's teacher. Plain text is the control that tells what
KnowDist says of sentiment from what any text repairs: the teacher's distributions on texts of the
same sources, for the same epochs at the same rate. In one arm it has more scored tokens than
KnowDist's answers (17,000 and 12,000), in the other as many updates: KnowDist's prompts, which are
not scored, fill its rows.
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
        run.healing.max_texts = 700
        run.data.scored_length = 200  # texts are longer than answers
        return run
    return config.knowdist if "knowdist" in names else config.icldist_256


def get_space() -> Study:
    """Four arms, three seeds of every stage."""
    longer = {"corpus": "healing-1450", "healing.max_texts": 1450}
    return Study(
        arms={
            "none": Variant({"train:student.source": "students/start"}, LABELS),
            "plain text": _plain_text(),
            "plain text, as many updates": _plain_text(**longer),
            "KnowDist": Variant(
                {"train:student.source": "students/knowdist"},
                (Step("train", "knowdist", _KNOWDIST), *LABELS),
            ),
        },
        control="none",
        goals=GOALS,
    )


def _plain_text(**changes: Any) -> Variant:
    first = (
        *(
            Step(step.verb, f"{step.verb} texts", _HEALING, {**step.changes, **changes})
            for step in CORPUS
        ),
        Step("train", "healing", _HEALING, changes),
    )
    return Variant({"train:student.source": "students/healing"}, (*first, *LABELS))
