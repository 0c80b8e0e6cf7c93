"""Optimizer and schedule from numbers."""

import re
from collections.abc import Callable, Sequence

import jax
import optax
from flax import nnx

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adamw": optax.adamw,
    "lion": optax.lion,
    "adafactor": lambda learning_rate, weight_decay, mask: optax.adafactor(
        learning_rate, weight_decay_rate=weight_decay or None, weight_decay_mask=mask
    ),
}
SCHEDULES = ("cosine", "linear", "constant")


def make_schedule(
    kind: str, *, peak: float, warmup_steps: int, total_steps: int, final_fraction: float
) -> optax.Schedule:
    """Linear warm-up from 0 to `peak`, then decay to `final_fraction` of it at `total_steps`.

    Raises:
      ValueError: If the kind is unknown or the warm-up is not shorter than the run.
    """
    if kind not in SCHEDULES:
        raise ValueError(f"schedule={kind!r} must be one of {list(SCHEDULES)}.")
    if not 0 <= warmup_steps < max(total_steps, 1):
        raise ValueError(
            f"warmup_steps={warmup_steps} must be less than the {total_steps} steps of the run;"
            " lower optimizer.warmup_fraction."
        )
    rest = max(total_steps - warmup_steps, 1)
    if kind == "cosine":
        decay = optax.cosine_decay_schedule(peak, rest, alpha=final_fraction)
    else:
        end = peak if kind == "constant" else peak * final_fraction
        decay = optax.linear_schedule(peak, end, rest)
    if not warmup_steps:
        return decay
    warmup = optax.linear_schedule(0.0, peak, warmup_steps)
    return optax.join_schedules([warmup, decay], [warmup_steps])


def make_optimizer(
    name: str, schedule: optax.Schedule, *, weight_decay: float, clip_norm: float
) -> optax.GradientTransformation:
    """Global-norm clipping, then the named optimizer; norm scales do not decay.

    Raises:
      ValueError: If the optimizer is unknown.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer.name={name!r} must be one of {sorted(OPTIMIZERS)}.")

    def decays(params):
        return jax.tree.map_with_path(
            lambda path, _: "scale" not in jax.tree_util.keystr(path), params
        )

    rule = OPTIMIZERS[name](schedule, weight_decay=weight_decay, mask=decays)
    return optax.chain(optax.clip_by_global_norm(clip_norm), rule)


def trainable_filter(frozen: Sequence[str]) -> Callable[..., bool]:
    """An NNX filter: parameters whose dotted path matches none of the regular expressions."""
    patterns = [re.compile(pattern) for pattern in frozen]

    def trainable(path, value) -> bool:
        name = ".".join(str(part) for part in path)
        return isinstance(value, nnx.Param) and not any(p.search(name) for p in patterns)

    return trainable
