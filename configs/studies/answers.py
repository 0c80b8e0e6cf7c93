"""How many KnowDist answers a student needs before 256 labels, and what the filters are worth.

sentidistill sweep --config=configs/studies/answers.py --space=configs/studies/answers.py \
    --workers=1 --workdir=workdir/demo

The teacher is asked 200, 2,000 or 8,000 times, and its answers are filtered; `unfiltered` learns
the answers to 2,000 prompts as they are, apologies, loops and misquotes included.
"""

from typing import Any

from configs import _arguments, demo
from configs.studies._shared import CORPUS, GOALS, LABELS
from sentidistill_jax.sweep.space import Step, Study, Variant

_KNOWDIST = f"{__file__}:knowdist"
_FAULTS = (
    "loop", "cut_off", "refusal", "copy", "misquote", "demonstration", "wrong_sentiment",
)  # fmt: skip


def get_config(arguments: str = "") -> Any:
    """The demo's run on few labels; with `knowdist` the stage before it."""
    names = _arguments.parse(arguments, ("knowdist",))
    config = demo.get_config(_arguments.SMOKE if _arguments.SMOKE in names else "")
    return config.knowdist if "knowdist" in names else config.icldist_256


def get_space() -> Study:
    """Five arms, three seeds of every stage; the answers are the same for all seeds."""
    return Study(
        arms={
            "none": Variant({"train:student.source": "students/start"}, LABELS),
            "200": _prompts(200),
            "2,000": _prompts(1000, per_text=2),
            "8,000": _prompts(1600, per_text=5),
            "2,000, unfiltered": _prompts(1000, per_text=2, tolerate=_FAULTS),
        },
        control="none",
        goals=GOALS,
    )


def _prompts(texts: int, *, per_text: int = 1, tolerate: tuple[str, ...] = ()) -> Variant:
    asked = {
        "corpus": f"knowdist-{texts}x{per_text}{'-unfiltered' if tolerate else ''}",
        "knowdist.max_texts": texts,
        "knowdist.per_text": per_text,
        "knowdist.tolerate": tolerate,
    }
    first = (
        *(
            Step(step.verb, f"{step.verb} answers", _KNOWDIST, {**step.changes, **asked})
            for step in CORPUS
        ),
        Step("train", "knowdist", _KNOWDIST, asked),
    )
    return Variant({"train:student.source": "students/knowdist"}, (*first, *LABELS))
