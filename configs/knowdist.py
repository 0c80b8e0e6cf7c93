"""Stage one, KnowDist: the student learns the teacher's analyses and rewrites of user texts.

sentidistill corpus --config=configs/knowdist.py --workdir=DIR, then teach, then train.

4,000 texts to label, 1,000 prompts, one epoch of rows of 256 tokens: four times the prompts of the
demo, whose three runs together take 14 minutes on two cores; not measured as it stands. Alone this
stage does not move label F1 (the demo's student: 39.9 before, 31.8 after); it is a start for
ICLDist.
"""

from configs import base


def get_config(arguments: str = ""):
    """The base config as it stands."""
    return base.get_config(arguments)
