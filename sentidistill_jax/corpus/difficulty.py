"""Difficulty filtering: the texts on which a student differs most from its teacher.

After Zhang et al., "Towards Efficient Sentiment Distillation" (CompEffDist, arXiv:2510.24425): a
tenth of the texts, if it is those that the student has still to learn, may do the work of all.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Float

from sentidistill_jax.corpus.user_texts import UnlabelledText


def difficulty(
    teacher_logprobs: Float[np.ndarray, "texts labels"],
    student_logprobs: Float[np.ndarray, "texts labels"],
) -> Float[np.ndarray, " texts"]:
    """KL divergence of a student's labels from the teacher's, nats."""
    teacher = np.asarray(teacher_logprobs, np.float64)
    return np.sum(np.exp(teacher) * (teacher - student_logprobs), axis=1)


def hardest(
    texts: Iterable[UnlabelledText], difficulties: Mapping[str, float], share: float
) -> list[UnlabelledText]:
    """The share of each source's texts that is most difficult, sorted by id.

    Args:
      texts: Texts; those without a difficulty are left out.
      difficulties: Text id -> nats.
      share: Above 0; of every source at least one text is kept.
    """
    by_source: dict[str, list[UnlabelledText]] = defaultdict(list)
    for text in texts:
        if text.id in difficulties:
            by_source[text.source].append(text)
    kept = []
    for found in by_source.values():
        found.sort(key=lambda text: (-difficulties[text.id], text.id))
        kept += found[: max(1, round(share * len(found)))]
    return sorted(kept, key=lambda text: text.id)
