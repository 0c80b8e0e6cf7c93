"""What KnowDist is worth with few labels and with many, in the demo's working directory.

sentidistill sweep --config=configs/studies/label_curve.py --space=configs/studies/label_curve.py \
    --workers=1 --workdir=workdir/demo

Each student learns the labels of 64, 256, 1,024 or all texts and nothing else, from the start that
no stage trained or from the KnowDist student. A seed shuffles the labels; which they are is the
same for all seeds.
"""

from typing import Any

from configs import demo
from configs.studies._shared import CORPUS, GOALS, LABELS
from sentidistill_jax.sweep.space import Study, Variant

_ALL = 1_000_000  # more than there are


def get_config(arguments: str = "") -> Any:
    """The demo's run on few labels."""
    return demo.get_config(arguments).icldist_256


def get_space() -> Study:
    """Two arms, four sizes, five seeds."""
    return Study(
        arms={
            "ICLDist alone": Variant({"student.source": "students/start"}),
            "both stages": Variant({"student.source": "students/knowdist"}),
        },
        control="ICLDist alone",
        sizes={
            "64 labels": _labels(64, epochs=8),
            "256 labels": _labels(256, epochs=4),
            "1,024 labels": _labels(1024, epochs=2),
            "all labels": _labels(_ALL, epochs=2),
        },
        seeds=range(5),
        steps=(*CORPUS, *LABELS),
        goals=GOALS,
    )


def _labels(count: int, *, epochs: int) -> Variant:
    return Variant(
        {
            "corpus": f"labels-{count}",
            "icldist.num_prompts": count,
            "icldist.max_labels": count,
            "data.epochs": epochs,
        }
    )
