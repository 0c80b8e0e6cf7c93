"""Reducing next-token logits on the device to what is kept: top-k, chosen tokens, and the tail."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int


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


def sparse_distribution(
    logits: Float[Array, "rows vocab"],
    chosen_ids: Int[Array | np.ndarray, "rows chosen"],
    *,
    k: int,
    temperatures: tuple[float, ...],
) -> SparseDistribution:
    """Keeps the k largest logits and the chosen tokens of every row; the rest becomes the tail.

    The tail is summed over the tokens outside the kept set, so it has full float32 precision
    however small it is (1 minus the kept mass would have none).

    Args:
      logits: Raw; computed in float32 whatever their dtype.
      chosen_ids: Kept whatever their rank; -1 is padding.
      k: At most the size of the vocabulary.
      temperatures: At which the tail is wanted; all other logprobs are at temperature 1.

    Returns:
      Distributions [rows, ...] over the full vocabulary; an empty tail and padding are -inf.
    """
    logits = logits.astype(jnp.float32)
    # From here on the largest is 0, so that likely tokens lose no digits to the size of the logits.
    logits = logits - jnp.max(logits, axis=-1, keepdims=True)
    rows = jnp.arange(logits.shape[0])[:, None]
    log_normaliser = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    top_k_logits, top_k_ids = lax.top_k(logits, k)
    chosen_logits = jnp.take_along_axis(logits, jnp.maximum(chosen_ids, 0), axis=-1)
    rest = logits.at[rows, top_k_ids].set(-jnp.inf)
    # Padding ids point past the vocabulary and are dropped by the scatter.
    outside = jnp.where(chosen_ids < 0, logits.shape[-1], chosen_ids)
    rest = rest.at[rows, outside].set(-jnp.inf, mode="drop")
    tails = []
    for temperature in temperatures:
        whole = jax.nn.logsumexp(logits / temperature, axis=-1)
        tails.append(jax.nn.logsumexp(rest / temperature, axis=-1) - whole)
    return SparseDistribution(
        top_k_ids=top_k_ids,
        top_k_logprobs=top_k_logits - log_normaliser,
        chosen_ids=chosen_ids,
        chosen_logprobs=jnp.where(chosen_ids < 0, -jnp.inf, chosen_logits - log_normaliser),
        tail_logprobs=jnp.stack(tails, axis=-1),
    )


def kept_entries(
    row: SparseDistribution,
) -> tuple[Int[np.ndarray, " kept"], Float[np.ndarray, " kept"]]:
    """Ids and logprobs of one position on the host: top-k first, then chosen tokens outside it.

    The ids are distinct: a token that is chosen twice, or among the top-k, counts once.
    """
    chosen, first = np.unique(row.chosen_ids, return_index=True)
    new = (chosen >= 0) & ~np.isin(chosen, row.top_k_ids)
    return (
        np.concatenate([row.top_k_ids, chosen[new]]).astype(np.int32),
        np.concatenate([row.top_k_logprobs, row.chosen_logprobs[first[new]]]).astype(np.float32),
    )
