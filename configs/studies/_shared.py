"""What the studies of the demo have in common."""

from sentidistill_jax.sweep.space import Goal, Step

# One corpus and one cache for all seeds, which shuffle what is learnt.
CORPUS = (Step("corpus", changes={"seed": 0}), Step("teach", changes={"seed": 0}))
LABELS = (Step("train"), Step("evaluate"))  # the stage whose student is scored

GOALS = tuple(
    Goal(f"{scores}/held_out/reviews/{measure}")
    for scores in ("student", "student-calibrated")
    for measure in ("f1", "auc")
)
