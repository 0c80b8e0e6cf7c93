"""Stage one, KnowDist: the student learns the teacher's analyses and rewrites of user texts.

sentidistill corpus --config=configs/knowdist.py --workdir=DIR, then teach, then train.

4,000 texts to label, 1,000 prompts, one epoch of rows of 256 tokens; not measured as it stands.
What the demo's run of 800 prompts and three epochs is worth is in docs/experiments.md.
"""

from configs import base


def get_config(arguments: str = ""):
    """The base config as it stands."""
    return base.get_config(arguments)
