"""The KnowDist perspectives: what the teacher is asked about a user text.

Every perspective has several instruction wordings and four demonstrations, two on positive and two
on negative texts, so that they lean to neither side. All of it was written for this project and
nothing comes from a data set. To add a perspective, add an entry to `analyses` or `rewrites`.
"""

from sentidistill_jax.corpus.analyses import ANALYSES
from sentidistill_jax.corpus.rewrites import REWRITES

PERSPECTIVES = {perspective.name: perspective for perspective in (*ANALYSES, *REWRITES)}
