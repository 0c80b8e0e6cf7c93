"""Reducing next-token logits on the device to what is kept: top-k, chosen tokens, tail, draws."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

# Tokens of a block in the two-stage draw: blocks of a vocabulary and tokens of a block are about
# as many, so that neither sum is long.
_BLOCK = 256


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SparseDistribution:
    """Per position the k likeliest tokens and some chosen ones, over the full vocabulary.

    A chosen id of -1 is padding. The tail is what neither top-k nor a chosen token covers.
    """

    top_k_ids: Int[Array | np.ndarray, "... k"]
    top_k_logprobs: Float[Array | np.ndarray, "... k"]
    chosen_ids: Int[Array | np.ndarray, "... chosen"]
    chosen_logprobs: Float[Array | np.ndarray, "... chosen"]
    tail_logprobs: Float[Array | np.ndarray, "... temperatures"]
    # Tokens drawn with replacement at temperature 1, if they were asked for.
    draws: Int[Array | np.ndarray, "... draws"] | None = None


@dataclasses.dataclass(frozen=True)
class Keep:
    """What is kept of every distribution; see `sparse_distribution`."""

    k: int
    temperatures: tuple[float, ...] = (1.0,)
    num_draws: int = 0


def sparse_distribution(
    logits: Float[Array, "rows vocab"],
    chosen_ids: Int[Array | np.ndarray, "rows chosen"],
    keys: Array | None = None,
    *,
    k: int,
    temperatures: tuple[float, ...],
    num_draws: int = 0,
    vocab_axis: str | None = None,
) -> SparseDistribution:
    """Keeps the k largest logits and the chosen tokens of every row; the rest becomes the tail.

    The tail is summed over the tokens outside the kept set, so it has full float32 precision
    however small it is (1 minus the kept mass would have none).

    Args:
      logits: Raw; computed in float32 whatever their dtype.
      chosen_ids: Kept whatever their rank; -1 is padding.
      keys: A PRNG key per row; only for draws.
      k: At most the size of the vocabulary.
      temperatures: At which the tail is wanted; all other logprobs are at temperature 1.
      num_draws: Tokens to draw from each row besides.
      vocab_axis: Mesh axis that the vocabulary is split over; then `logits` are this device's part,
        and what devices exchange is k candidates and a few sums a row, never logits.

    Returns:
      Distributions [rows, ...] over the full vocabulary; an empty tail and padding are -inf.
    """
    size = logits.shape[-1]
    first = 0 if vocab_axis is None else lax.axis_index(vocab_axis) * size  # id of the first logit
    rows = jnp.arange(logits.shape[0])[:, None]

    def here(ids: Array | np.ndarray) -> Array:
        """Indices of tokens in this device's part; past its end for those that are not in it."""
        return jnp.where((ids >= first) & (ids < first + size), ids - first, size)

    logits = logits.astype(jnp.float32)
    # From here on the largest is 0, so that likely tokens lose no digits to the size of the logits.
    logits = logits - _over(lax.pmax, jnp.max(logits, axis=-1, keepdims=True), vocab_axis)
    log_normaliser = _logsumexp(logits, vocab_axis)[:, None]
    top_k_logits, top_k_ids = _top_k(logits, first, k, vocab_axis)
    chosen_logits = jnp.take_along_axis(
        logits, here(chosen_ids), axis=-1, mode="fill", fill_value=-jnp.inf
    )
    rest = logits.at[rows, here(top_k_ids)].set(-jnp.inf, mode="drop")
    rest = rest.at[rows, here(chosen_ids)].set(-jnp.inf, mode="drop")
    tails = [
        _logsumexp(rest / temperature, vocab_axis) - _logsumexp(logits / temperature, vocab_axis)
        for temperature in temperatures
    ]
    draws = None
    if num_draws:
        assert keys is not None
        draws = _draw(jnp.exp(logits), keys, num_draws, vocab_axis)
    return SparseDistribution(
        top_k_ids=top_k_ids,
        top_k_logprobs=top_k_logits - log_normaliser,
        chosen_ids=chosen_ids,
        chosen_logprobs=_over(lax.pmax, chosen_logits, vocab_axis) - log_normaliser,
        tail_logprobs=jnp.stack(tails, axis=-1),
        draws=draws,
    )


def _over(reduce: Callable[..., Array], values: Array, vocab_axis: str | None) -> Array:
    return values if vocab_axis is None else reduce(values, vocab_axis)


def _logsumexp(values: Array, vocab_axis: str | None) -> Array:
    largest = _over(lax.pmax, jnp.max(values, axis=-1), vocab_axis)
    largest = jnp.where(largest > -jnp.inf, largest, 0.0)
    total = _over(lax.psum, jnp.sum(jnp.exp(values - largest[:, None]), axis=-1), vocab_axis)
    return jnp.log(total) + largest


def _top_k(logits: Array, first: Array | int, k: int, vocab_axis: str | None) -> tuple:
    """The k largest of each row and their ids; of equal ones those with the lowest ids."""
    values, ids = lax.top_k(logits, min(k, logits.shape[-1]))
    ids = ids + first
    if vocab_axis is None:
        return values, ids
    # Every part's candidates, in the order of the parts: ties stay in the order of ids.
    values, ids = (lax.all_gather(part, vocab_axis, axis=1, tiled=True) for part in (values, ids))
    values, chosen = lax.top_k(values, k)
    return values, jnp.take_along_axis(ids, chosen, axis=-1)


def _draw(masses: Array, keys: Array, num_draws: int, vocab_axis: str | None) -> Array:
    """Draws ids [rows, num_draws] in proportion to their masses: first a block, then a token in it.

    Two short sums instead of one over the vocabulary, in which float32 would lose unlikely tokens.
    """
    rows, size = masses.shape
    blocks = jnp.pad(masses, ((0, 0), (0, -size % _BLOCK))).reshape(rows, -1, _BLOCK)
    of_blocks = jnp.sum(blocks, axis=-1)
    own, part = of_blocks.shape[1], 0
    if vocab_axis is not None:
        of_blocks = lax.all_gather(of_blocks, vocab_axis, axis=1, tiled=True)
        part = lax.axis_index(vocab_axis)
    uniform = jax.vmap(lambda key: jax.random.uniform(key, (2, num_draws)))(keys)
    block = _invert(of_blocks[:, None, :], uniform[:, 0])
    within = jnp.clip(block - part * own, 0, own - 1)
    token = _invert(blocks[jnp.arange(rows)[:, None], within], uniform[:, 1])
    ids = part * size + within * _BLOCK + token
    return _over(lax.psum, jnp.where(block // own == part, ids, 0), vocab_axis)


def _invert(masses: Array, uniform: Array) -> Array:
    """Index along the last axis at which the running sum of masses passes a share of the whole."""
    sums = jnp.cumsum(masses, axis=-1)
    whole = sums[..., -1]
    # A product rounded up to the whole would be passed nowhere.
    share = jnp.minimum(uniform * whole, jnp.nextafter(whole, jnp.zeros_like(whole)))
    return jnp.sum(sums <= share[..., None], axis=-1, dtype=jnp.int32)
