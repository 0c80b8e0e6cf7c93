"""Attention of new tokens to themselves, to a cache of earlier ones, and to a shared prefix.

One softmax over three sources, each read where it lies: a running maximum and sum join them
(arXiv:2112.05682). Of the cache and the prefix only blocks that hold something are read, however
long they are, so that one compiled program serves texts of any length.

Letters: b batch, q query position, k key position, h kv head, g query heads per kv head,
d head_dim, n = g x q.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sentidistill_jax.cpu_workarounds import bitcast_from_words
from sentidistill_jax.models.kv_cache import EMPTY, KVCache, SharedPrefix
from sentidistill_jax.models.matmul import einsum
from sentidistill_jax.sharding import backend

_BLOCK = {"cpu": 64}  # slots read at a time; those of a CPU stay in its cache
_OTHER_BLOCK = 512
_LOWEST = jnp.finfo(jnp.float32).min


@dataclasses.dataclass(frozen=True)
class _Mix:
    """Values mixed so far: weights relative to the largest score, not yet divided by their sum."""

    largest: Float[Array, "b h n 1"]
    total: Float[Array, "b h n 1"]
    mixed: Float[Array, "b h n d"]

    def join(self, other: "_Mix") -> "_Mix":
        """The mix of both."""
        largest = jnp.maximum(self.largest, other.largest)
        old, new = jnp.exp(self.largest - largest), jnp.exp(other.largest - largest)
        return _Mix(
            largest,
            self.total * old + other.total * new,
            self.mixed * old + other.mixed * new,
        )


jax.tree_util.register_dataclass(_Mix)


def attend_cached(
    query: Float[Array, "b q h g d"],
    key: Float[Array, "b h q d"],
    value: Float[Array, "b h q d"],
    positions: Int[Array, "b q"],
    *,
    layer: Int[Array, ""],
    cache: KVCache,
    prefix: SharedPrefix | None,
    scale: float,
    window: Int[Array, ""] | None = None,
    softcap: float | None = None,
) -> Float[Array, "b q h g d"]:
    """Mixes the values that each query sees by the softmax of its scores; float32.

    Args:
      query: Grouped by the kv head that each reads.
      key: Of the same tokens, which are not in the cache yet.
      value: Beside the keys.
      positions: Of the tokens in their texts, prefix included; `kv_cache.EMPTY` for padding.
      layer: Which of the cache's layers is read.
      cache: Tokens read before; a query sees those at positions up to its own.
      prefix: Further tokens before all others.
      scale: Scores are query @ key times this.
      window: Keys further back than `window - 1` are not seen; None: no limit.
      softcap: Scores become softcap * tanh(scores / softcap).
    """
    b, q, h, g, d = query.shape
    rows = (query * scale).transpose(0, 2, 3, 1, 4).reshape(b, h, g * q, d)
    mix = functools.partial(_mix, softcap=softcap)

    def seen(places: Int[Array, "b k"]) -> Bool[Array, "b 1 n k"]:
        distance = positions[:, :, None] - places[:, None]
        visible = distance >= 0 if window is None else (distance >= 0) & (distance < window)
        return jnp.tile(visible, (1, g, 1))[:, None]

    found = mix(rows, key, value, seen(positions))
    block = _block(q, cache.length)
    last = (cache.used - 1) % cache.length // block

    def join_block(index: Int[Array, ""] | int, found: _Mix) -> _Mix:
        start = (last - index) % (cache.length // block) * block
        keys, values = (
            bitcast_from_words(
                lax.dynamic_slice(stack, (layer, 0, 0, start, 0), (1, b, h, block, d))[0]
            )
            for stack in (cache.key, cache.value)
        )
        places = lax.dynamic_slice_in_dim(cache.positions, start, block, axis=1)
        return found.join(mix(rows, keys, values, seen(places)))

    # The newest block may be filled in part, so the oldest slot in reach may lie one further back,
    # or in the newest block again where the ring is full.
    newest = (cache.used - 1) % block + 1
    blocks = jnp.where(cache.reach > 0, 1 + -(-(cache.reach - newest) // block), 0)
    most = cache.length // block
    found = _repeat(most, jnp.minimum(blocks, most), join_block, found)
    if prefix is not None:
        found = found.join(_of_prefix(rows, positions, layer, prefix, window, mix))
    return (found.mixed / found.total).reshape(b, h, g, q, d).transpose(0, 3, 1, 2, 4)


def _of_prefix(rows, positions, layer, prefix: SharedPrefix, window, mix) -> _Mix:
    """The queries behind one prefix are one matrix, so that its keys are read once for all."""
    b, h, n, d = rows.shape
    p, length = prefix.positions.shape
    together = rows.reshape(p, b // p, h, n, d).swapaxes(1, 2).reshape(p, h, -1, d)
    block = _block(positions.shape[1], length)

    def join_block(index: Int[Array, ""] | int, found: _Mix) -> _Mix:
        start = index * block
        keys, values = (
            bitcast_from_words(
                lax.dynamic_slice(stack, (layer, 0, 0, start, 0), (1, p, h, block, d))[0]
            )
            for stack in (prefix.key, prefix.value)
        )
        places = lax.dynamic_slice_in_dim(prefix.positions, start, block, axis=1)
        visible = (places != EMPTY)[:, None, None]
        if window is not None:
            near = positions.reshape(p, -1, 1) - places[:, None] < window  # [p, b/p x q, k]
            near = near.reshape(p, b // p, 1, -1, block)
            near = jnp.tile(near, (1, 1, n // positions.shape[1], 1, 1))
            visible = visible & near.reshape(p, 1, -1, block)
        return found.join(mix(together, keys, values, visible))

    nothing = _Mix(
        jnp.full((*together.shape[:-1], 1), _LOWEST),
        jnp.zeros((*together.shape[:-1], 1)),
        jnp.zeros(together.shape),
    )
    found = _repeat(length // block, -(-prefix.used // block), join_block, nothing)
    return jax.tree.map(
        lambda part: part.reshape(p, h, b // p, n, -1).swapaxes(1, 2).reshape(b, h, n, -1), found
    )


def _mix(queries, keys, values, visible, *, softcap: float | None) -> _Mix:
    """The mix of one source.

    Where a query sees none of it every score is the lowest there is: such a mix weighs nothing as
    soon as it joins one with a real score, and every query sees at least itself.
    """
    scores = einsum("bhnd,bhkd->bhnk", queries, keys)
    if softcap is not None:
        scores = softcap * jnp.tanh(scores / softcap)
    scores = jnp.where(visible, scores, _LOWEST)
    largest = jnp.max(scores, axis=-1, keepdims=True)
    weights = jnp.exp(scores - largest)
    mixed = einsum("bhnk,bhkd->bhnd", weights.astype(values.dtype), values)
    return _Mix(largest, jnp.sum(weights, axis=-1, keepdims=True), mixed)


def _block(queries: int, length: int) -> int:
    """Slots that are read at a time.

    One query a row is bound by latency on accelerators, where a loop of unknown length waits for
    the host in every round: there all slots are read at once.
    """
    if backend() != "cpu" and queries == 1:
        return length
    block = min(_BLOCK.get(backend(), _OTHER_BLOCK), length)
    return block if length % block == 0 else length


def _repeat(most: int, count, body, init: _Mix) -> _Mix:
    return body(0, init) if most == 1 else lax.fori_loop(0, count, body, init)
