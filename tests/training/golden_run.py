"""A fixed run of twenty steps, and the goldens that it must give on any CPU.

PYTHONPATH=tests:. python tests/training/golden_run.py     rewrites the files in tests/golden
"""

import functools
import pathlib
import tempfile

import jax
import optax
from helpers import random_cache, random_decoder

from sentidistill_jax.data.loader import BatchShape, PackedBatches, iterate
from sentidistill_jax.data.teacher_cache import open_cache
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.training.objectives import CachedObjective
from sentidistill_jax.training.optimizer import make_optimizer, make_schedule
from sentidistill_jax.training.train_step import init_state, train_step
from sentidistill_jax.training.trainable import take_apart

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
STEP, CURVE = GOLDEN / "train_step.txt", GOLDEN / "loss_curve.txt"  # "name value", "step loss"
STEPS = 20
OBJECTIVE = CachedObjective(name="icldist", alpha=0.5, temperature=2.0, label_weight=0.5)


def golden_run() -> tuple[dict[str, float], dict[str, float]]:
    """What one step does, by name, and the loss at each step, by its number from 1."""
    mesh = make_mesh({}, jax.devices()[:1])
    schedule = make_schedule(
        "linear", peak=3e-3, warmup_steps=2, total_steps=STEPS, final_fraction=0.1, decay_steps=0
    )
    optimizer = make_optimizer("adamw", schedule, weight_decay=0.01, clip_norm=1.0)
    parts = take_apart(random_decoder(mesh), mesh)
    with tempfile.TemporaryDirectory() as folder:
        sizes = [(5, 4), (7, 5), (12, 4), (8, 6), (10, 1), (9, 7), (6, 3), (11, 4)]
        cache = open_cache(random_cache(pathlib.Path(folder) / "cache", sizes))
        batches = PackedBatches(
            [cache], BatchShape(4, 32, 16), epochs=STEPS, seed=0, temperatures=(2.0,)
        )
        step = jax.jit(
            functools.partial(
                train_step,
                assemble=parts.assemble,
                optimizer=optimizer,
                objective=OBJECTIVE,
                num_kinds=len(batches.kinds),
                total_steps=STEPS,
            )
        )
        state = init_state(parts.params, parts.frozen, optimizer, mesh)
        one_step, losses = {}, {}
        for number, batch in zip(
            range(1, STEPS + 1), iterate(batches, mesh, start_step=0), strict=False
        ):
            before = state.params
            state, metrics = step(state, batch)
            losses[str(number)] = float(metrics["loss"])
            if number == 2:  # the rate of the first is 0
                update = jax.tree.map(lambda new, old: new - old, state.params, before)
                one_step = {
                    "loss": losses["2"],
                    "gradient_norm": float(metrics["gradient_norm"]),
                    "update_norm": float(optax.tree.norm(update)),
                }
    return one_step, losses


def read(path: pathlib.Path) -> dict[str, float]:
    lines = (line.split() for line in path.read_text().splitlines())
    return {name: float(value) for name, value in lines}


def main() -> None:
    for path, values in zip((STEP, CURVE), golden_run(), strict=True):
        path.write_text("".join(f"{name} {value:.8g}\n" for name, value in values.items()))


if __name__ == "__main__":
    main()
