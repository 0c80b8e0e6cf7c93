"""What the losses read of a row of logits: a few entries, and how much the others weigh.

This is the only place where a loss touches arrays of vocabulary size, so its gradient is written by
hand: two exponentials per logit and one buffer.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class LogitSummary(NamedTuple):
    """Logits of each row less a constant of that row, in float32; only for what ignores a shift."""

    gathered: Float[Array, "rows slots"]  # logits at the ids; meaningless in empty slots
    tail_logsumexps: tuple[Float[Array, "rows"], ...]  # of logits / temperature, kept ids left out


def summarize_logits(
    logits: Float[Array, "rows vocab"],
    ids: Int[Array, "rows slots"],
    kept: Bool[Array, "rows slots"],
    temperatures: Sequence[float | Float[Array, ""]],
    vocab_axis: str | None = None,
) -> LogitSummary:
    """Gathers the logits at `ids` and sums up the others, at each temperature.

    Args:
      logits: The whole vocabulary, or this device's part of it.
      ids: Vocabulary ids; any outside [0, vocab) marks an empty slot.
      kept: Which slots the tail leaves out.
      temperatures: Each positive; the gathered logits are not divided.
      vocab_axis: Mesh axis over which the vocabulary is sharded, inside `jax.shard_map`.

    Returns:
      The summary of the whole vocabulary, the same on all devices along `vocab_axis`; -inf is the
      logsumexp of an empty tail.
    """
    vocab = logits.shape[-1]
    if vocab_axis is not None:
        ids = ids - jax.lax.axis_index(vocab_axis) * vocab
    # One spelling of "not here": `vocab` is out of bounds, where a negative id would wrap around.
    slots = jnp.where((ids >= 0) & (ids < vocab), ids, vocab)
    tail_slots = jnp.where(kept, slots, vocab)
    return _summarize(
        vocab_axis, logits.astype(jnp.float32), slots, tail_slots, tuple(temperatures)
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _summarize(vocab_axis, logits, slots, tail_slots, temperatures):
    return _summarize_forward(vocab_axis, logits, slots, tail_slots, temperatures)[0]


def _summarize_forward(vocab_axis, logits, slots, tail_slots, temperatures):
    rows = jnp.arange(len(logits))[:, None]
    gathered = logits.at[rows, slots].get(mode="fill", fill_value=0.0)
    tail_logits = logits.at[rows, tail_slots].set(-jnp.inf, mode="drop")
    tail_max = jnp.max(tail_logits, axis=-1, keepdims=True)
    if vocab_axis is not None:
        gathered = jax.lax.psum(gathered, vocab_axis)
        tail_max = jax.lax.pmax(tail_max, vocab_axis)
    tail_max = jnp.where(tail_max > -jnp.inf, tail_max, 0.0)  # an empty tail must not make NaN
    tail_masses = []
    for temperature in temperatures:
        mass = jnp.sum(jnp.exp((tail_logits - tail_max) / temperature), axis=-1)
        tail_masses.append(mass if vocab_axis is None else jax.lax.psum(mass, vocab_axis))
    # The row constant is the largest tail logit: the sums above neither overflow nor vanish, and
    # the losses lose no digits to logits far from zero.
    summary = LogitSummary(gathered - tail_max, tuple(jnp.log(mass) for mass in tail_masses))
    return summary, (tail_logits, tail_max, tail_masses, slots, temperatures)


def _summarize_backward(vocab_axis, residuals, cotangent):
    del vocab_axis  # the cotangent is the same along it, and each device owns its logits
    tail_logits, tail_max, tail_masses, slots, temperatures = residuals
    gradient = jnp.zeros_like(tail_logits)
    for temperature, mass, weight in zip(
        temperatures, tail_masses, cotangent.tail_logsumexps, strict=True
    ):
        scale = weight / (temperature * jnp.where(mass > 0, mass, 1.0))
        gradient += jnp.exp((tail_logits - tail_max) / temperature) * scale[:, None]
    rows = jnp.arange(len(slots))[:, None]
    return gradient.at[rows, slots].add(cotangent.gathered, mode="drop"), None, None, None


_summarize.defvjp(_summarize_forward, _summarize_backward)
