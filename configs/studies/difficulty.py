"""Whether a tenth of the labels does the work of all, if it is the most difficult tenth.

sentidistill sweep --config=configs/studies/difficulty.py --space=configs/studies/difficulty.py \
    --workers=1 --workdir=workdir/demo

Students start from the KnowDist student, which also says what is difficult, and learn the labels of
a random tenth of the texts, of the tenth on which it differs most from the teacher, or of all.
"""

from typing import Any

from configs import demo
from configs.studies._shared import CORPUS, GOALS, LABELS
from sentidistill_jax.sweep.space import Study, Variant

_TENTH = 180  # of the demo's texts
_ALL = 1_000_000


def get_config(arguments: str = "") -> Any:
    """The demo's run on few labels, after KnowDist."""
    return demo.get_config(arguments).both_256


def get_space() -> Study:
    """Three arms, three seeds; a tenth is learnt four times as often."""
    hardest = {"difficulty.model": "students/knowdist", "difficulty.share": 0.1}
    return Study(
        arms={
            "a random tenth": Variant(_labels("random-tenth", _TENTH, epochs=8)),
            "the hardest tenth": Variant(_labels("hardest-tenth", _TENTH, epochs=8) | hardest),
            "all": Variant(_labels("all-labels", _ALL, epochs=2)),
        },
        control="a random tenth",
        steps=(*CORPUS, *LABELS),
        goals=GOALS,
    )


def _labels(corpus: str, count: int, *, epochs: int) -> dict[str, Any]:
    return {
        "corpus": corpus,
        "icldist.num_prompts": count,
        "icldist.max_labels": count,
        "data.epochs": epochs,
    }
