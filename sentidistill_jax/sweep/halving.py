"""Who goes on at the rungs of asynchronous successive halving; pure functions of scores."""

from collections.abc import Mapping

from sentidistill_jax.sweep.space import Halving

Looks = Mapping[int, float]  # training step -> score at that look


def scores_at(looks: Mapping[int, Looks], step: int) -> dict[int, float]:
    """Trial -> its score at the first look at or after a step, of trials that came so far.

    Args:
      looks: Trial -> its looks.
      step: Of a rung.
    """
    reached = {}
    for trial, of_trial in looks.items():
        later = [at for at in of_trial if at >= step]
        if later:
            reached[trial] = of_trial[min(later)]
    return reached


def best(halving: Halving, looks: Mapping[int, Looks], rung: int, *, closed: bool) -> list[int]:
    """Trials that may go on beyond a rung, the best first; of equal ones the earlier.

    Args:
      halving: The rungs.
      looks: Trial -> its looks.
      rung: Index of the rung.
      closed: Whether no further trial will come: then one goes on however few there are.
    """
    scores = scores_at(looks, halving.rungs[rung])
    ranked = sorted(scores, key=lambda trial: (-halving.goal.sign * scores[trial], trial))
    return ranked[: max(len(ranked) // halving.factor, int(closed))]


def rungs_reached(halving: Halving, looks: Looks) -> int:
    """How many rungs a trial has come to."""
    last = max(looks, default=-1)
    return sum(last >= step for step in halving.rungs)
