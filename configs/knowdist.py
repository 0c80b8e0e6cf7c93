"""Stage one, KnowDist: the student learns the teacher's analyses and rewrites of user texts.

sentidistill corpus --config=configs/knowdist.py --workdir=DIR, then teach, then train.
"""

from configs import base


def get_config():
    """The base config as it stands."""
    return base.get_config()
