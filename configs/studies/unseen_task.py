"""What ICLDist teaches of a task that it holds no prompt of: sentiment, scored on reviews.

sentidistill sweep --config=configs/studies/unseen_task.py --space=configs/studies/unseen_task.py \
    --workers=1 --workdir=workdir/demo

The mixture goes without the tasks whose labels are those of the reviews or finer ones; what is left
are emotions, irony, topics, targets, forms. Students start from the KnowDist student and from the
one that no stage trained.
"""

from typing import Any

from configs import demo
from configs.studies._shared import CORPUS, GOALS, LABELS
from sentidistill_jax.sweep.space import Step, Study, Variant

_LEFT_OUT = {
    "corpus": "without-sentiment",
    "icldist.leave_out": ("sentiment", "sentiment3", "intensity"),
    "icldist.bare_fraction": 0.0,
}


def get_config(arguments: str = "") -> Any:
    """The demo's run on all task prompts."""
    return demo.get_config(arguments).both


def get_space() -> Study:
    """No ICLDist, ICLDist without the task, and with it, from either start; three seeds."""
    starts = {"start": "students/start", "KnowDist": "students/knowdist"}
    arms = {}
    for name, source in starts.items():
        scored = Step("evaluate", flags=(f"--model={source}", "--name=student"))
        arms[f"{name}, none"] = Variant(steps=(scored,))
        arms[f"{name}, other tasks"] = Variant(
            {"student.source": source, **_LEFT_OUT}, (*CORPUS, *LABELS)
        )
        arms[f"{name}, all tasks"] = Variant({"student.source": source}, LABELS)
    return Study(arms=arms, control="start, none", goals=GOALS)
