"""What the studies of the demo have in common."""

from sentidistill_jax.sweep.space import Goal, Step

# One corpus and one cache for all seeds, which shuffle what is learnt.
CORPUS = (Step("corpus", changes={"seed": 0}), Step("teach", changes={"seed": 0}))
LABELS = (Step("train"), Step("evaluate"))  # the stage whose student is scored

GOALS = (
    Goal("student/held_out/reviews/f1"),
    Goal("student-calibrated/held_out/reviews/f1"),
    Goal("student/held_out/reviews/auc"),  # that no calibration changes
)
