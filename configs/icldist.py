"""Stage two, ICLDist: the student of stage one learns to follow few-shot task prompts.

sentidistill corpus --config=configs/icldist.py --workdir=DIR, then teach, then train.
"""

from typing import Any

from configs import base


def get_config():
    """Label targets, from the student that KnowDist trained."""
    config: Any = base.get_config()
    config.stage = "icldist"
    config.name = "both"
    config.student.source = "students/knowdist"
    config.student.layers = ()
    config.objective.name = "icldist"
    config.objective.label_weight = 1.0
    config.data.epochs = 2
    return config
