"""The label stage (ICLDist): how fast, how soft, and how much of the loss is about label words.

sentidistill sweep --config=configs/icldist.py --space=configs/sweeps/label_stage.py --trials=24 \
    --workers=2 --workdir=DIR

DIR holds the ICLDist cache and the student `students/knowdist` from which each trial starts. A
trial is scored as it learns, on SentiBench's training items; two of three stop early.
"""

from sentidistill_jax.sweep.space import (
    Choice,
    Halving,
    LogUniform,
    Space,
    Step,
    Uniform,
    When,
)


def get_space() -> Space:
    """Learning rate, loss and adapters of one training run."""
    watched = {
        "evaluation.in_training.interval": 40,
        "optimizer.schedule": "wsd",  # trials that stop at a rung have not begun to decay
    }
    return Space(
        fields={
            "optimizer.learning_rate": LogUniform(3e-5, 1e-3),
            "objective.alpha": Uniform(0.0, 1.0),
            "objective.label_weight": LogUniform(0.1, 10.0),
            "objective.divergence": Choice(("forward_kl", "reverse_kl", "skew_forward_kl")),
            "lora.rank": Choice((0, 16)),
            "lora.scale": When("lora.rank", (16,), LogUniform(0.5, 8.0)),
        },
        steps=(Step("train", changes=watched),),
        halving=Halving(rungs=(40, 120), factor=3),
    )
