"""Stage two, ICLDist: the student of stage one learns to follow few-shot task prompts.

sentidistill corpus --config=configs/icldist.py --workdir=DIR, then teach, then train.

The teacher's labels and 1,600 few-shot prompts, two epochs; not measured as it stands. What the
demo's smaller stages reach, alone and together, is in docs/experiments.md.
"""

from typing import Any

from configs import _arguments, base


def get_config(arguments: str = ""):
    """Label targets, from the student that KnowDist trained."""
    config: Any = base.get_config()
    config.stage = "icldist"
    config.name = "both"
    config.student.source = "students/knowdist"
    config.student.layers = ()
    config.objective.name = "icldist"
    config.objective.label_weight = 1.0
    config.data.epochs = 2
    if _arguments.SMOKE in _arguments.parse(arguments):
        _arguments.shrink(config)
    return config
