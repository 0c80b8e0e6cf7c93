"""Optimizer and schedule from numbers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.typing import DTypeLike
from optax.contrib import MuonDimensionNumbers, muon

SCHEDULES = ("cosine", "linear", "wsd", "constant")


def make_schedule(
    kind: str,
    *,
    peak: float,
    warmup_steps: int,
    total_steps: int,
    final_fraction: float,
    decay_steps: int,
) -> optax.Schedule:
    """Linear warm-up from 0 to `peak`, then decay to `final_fraction` of it at `total_steps`.

    Args:
      kind: One of `SCHEDULES`. "wsd" (warm-up, stable, decay; arXiv:2404.06395) stays at the peak
        and decays in a line at the end.
      peak: Highest learning rate.
      warmup_steps: Of the line up to it.
      total_steps: Of the run.
      final_fraction: Of the peak, at the end; "constant" ignores it.
      decay_steps: Of the final line down of "wsd"; the others ignore it.

    Raises:
      ValueError: If the kind is unknown, or warm-up and decay do not fit into the run.
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
        after = optax.cosine_decay_schedule(peak, rest, alpha=final_fraction)
    elif kind == "constant":
        after = optax.constant_schedule(peak)
    else:
        length = decay_steps if kind == "wsd" else rest
        if not 0 < length <= rest:
            raise ValueError(
                f"decay_steps={length} must be from 1 to the {rest} steps after the warm-up; change"
                " optimizer.decay_fraction."
            )
        after = optax.linear_schedule(peak, peak * final_fraction, length, rest - length)
    if not warmup_steps:
        return after
    warmup = optax.linear_schedule(0.0, peak, warmup_steps)
    return optax.join_schedules([warmup, after], [warmup_steps])


def _decays(params: Any) -> Any:
    """Every parameter but the scales of norms."""
    return jax.tree.map_with_path(lambda path, _: "scale" not in jax.tree_util.keystr(path), params)


def _muon_axes(params: Any) -> Any:
    """Which axes of each parameter are a matrix to orthogonalize; None leaves it to Adam.

    Matrices are the weights of stacked layers, each layer its own: one side of them is the residual
    stream, or the rank of an adapter. Embeddings, heads, norms and biases are no such matrices.
    """

    def axes_of(variable: nnx.Variable) -> MuonDimensionNumbers | None:
        layers, *axes = variable.get_metadata()["axes"]
        side = "rank" if "rank" in axes else "embed"
        if layers != "layers" or side not in axes or len(axes) < 2:
            return None
        boundary = 1 if axes[0] == side else len(axes) - 1
        numbers = tuple(range(1, len(axes) + 1))
        return MuonDimensionNumbers(numbers[:boundary], numbers[boundary:])

    return jax.tree.map(axes_of, params, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def _adamw(schedule: optax.Schedule, weight_decay: float, momentum_dtype: DTypeLike):
    return optax.adamw(schedule, weight_decay=weight_decay, mask=_decays, mu_dtype=momentum_dtype)


def _lion(schedule: optax.Schedule, weight_decay: float, momentum_dtype: DTypeLike):
    return optax.lion(schedule, weight_decay=weight_decay, mask=_decays, mu_dtype=momentum_dtype)


def _adafactor(schedule: optax.Schedule, weight_decay: float, momentum_dtype: DTypeLike):
    del momentum_dtype  # it keeps none
    # The rate multiplies the weight as it stands, unlike that of the others.
    return optax.adafactor(
        schedule,
        weight_decay_rate=lambda step: weight_decay * schedule(step),
        weight_decay_mask=_decays,
    )


def _muon(schedule: optax.Schedule, weight_decay: float, momentum_dtype: DTypeLike):
    # Updates as large as Adam's (0.2 a weight, arXiv:2502.16982), so that one learning rate serves
    # the matrices and what Adam updates beside them.
    return muon(
        schedule,
        weight_decay=weight_decay,
        weight_decay_mask=_decays,
        adam_weight_decay=0.0,
        mu_dtype=momentum_dtype,
        consistent_rms=0.2,
        muon_weight_dimension_numbers=_muon_axes,
    )


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adamw": _adamw,
    "adafactor": _adafactor,
    "lion": _lion,
    "muon": _muon,
}


def make_optimizer(
    name: str,
    schedule: optax.Schedule,
    *,
    weight_decay: float,
    clip_norm: float,
    momentum_dtype: DTypeLike = jnp.float32,
) -> optax.GradientTransformation:
    """Global-norm clipping, then the named optimizer; norm scales do not decay.

    Args:
      name: A key of `OPTIMIZERS`. Under "muon" (arXiv:2502.16982) what is no matrix of a layer goes
        to Adam, without decay.
      schedule: Learning rate at a step; the decay is multiplied by it.
      weight_decay: Decoupled.
      clip_norm: Largest global norm of a gradient.
      momentum_dtype: Of the first moment.

    Raises:
      ValueError: If the optimizer is unknown.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer.name={name!r} must be one of {sorted(OPTIMIZERS)}.")
    rule = OPTIMIZERS[name](schedule, weight_decay, momentum_dtype)
    return optax.chain(_clip_by_global_norm(clip_norm), rule)


def _clip_by_global_norm(clip_norm: float) -> optax.GradientTransformation:
    """As optax has it, but as one multiplication, which fuses with what reads the result.

    A division per element would be thought too dear to repeat, and so be written out: on a CPU that
    is a third of the update's time.
    """

    def clip(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        norm = optax.tree.norm(updates)
        factor = jnp.where(norm < clip_norm, 1.0, clip_norm / norm)
        return jax.tree.map(lambda update: update * factor.astype(update.dtype), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), clip)
