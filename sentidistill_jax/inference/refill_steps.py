"""What greedy decoding with refilled rows runs on the device; `refill.py` is its host side.

All rows fill the cache's slots together. A prompt that comes later is put right before the next
free slot, so every row's tokens end there and no row has a gap.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sentidistill_jax.inference.steps import Graph, cache_dtype, next_token_logits
from sentidistill_jax.models.kv_cache import EMPTY, KVCache
from sentidistill_jax.sharding import constrain

Seen = Bool[Array, "rows vocab"]  # tokens of a row's text so far; None where nothing is penalised


@functools.partial(jax.jit, static_argnames=("graphdef", "rows", "length"))
def empty(
    state: Any, used: Int[Array, ""] | int, *, graphdef: Graph, rows: int, length: int
) -> KVCache:
    """A cache without tokens whose first `used` slots are passed over."""
    model = nnx.merge(graphdef, state)
    cache = KVCache.zeros(model.config, rows, length, cache_dtype(model))
    # Not blank, so that the first chunk that is read compiles to the same program as all others.
    return dataclasses.replace(cache, used=jnp.asarray(used, jnp.int32), blank=False)


@functools.partial(jax.jit, static_argnames=("graphdef",), donate_argnames=("cache",))
def read_chunk(
    state: Any,
    tokens: Int[Array, "rows chunk"],
    positions: Int[Array, "rows chunk"],
    cache: KVCache,
    prefix: KVCache | None,
    *,
    graphdef: Graph,
) -> tuple[KVCache, Float[Array, "rows embed"]]:
    """Reads the next part of every prompt; returns the hidden states after its last token too."""
    model = nnx.merge(graphdef, state)
    hidden, updated = model(tokens, positions, cache=cache, prefix=prefix)
    assert updated is not None
    return updated, hidden[:, -1]


@functools.partial(jax.jit, static_argnames=("graphdef", "penalty"))
def first_logprobs(
    state: Any,
    hidden: Float[Array, "rows embed"],
    seen: Seen | None,
    *,
    graphdef: Graph,
    penalty: float,
) -> Float[Array, "rows vocab"]:
    """Logprobs of the token after each prompt."""
    logits = _penalised(next_token_logits(nnx.merge(graphdef, state), hidden), seen, penalty)
    return constrain(jax.nn.log_softmax(logits, axis=-1), (None, None))


@functools.partial(jax.jit, static_argnames=("graphdef", "penalty"))
def first_tokens(
    state: Any,
    hidden: Float[Array, "rows embed"],
    seen: Seen | None,
    *,
    graphdef: Graph,
    penalty: float,
) -> Int[Array, " rows"]:
    """The likeliest token after each prompt."""
    logits = next_token_logits(nnx.merge(graphdef, state), hidden)
    return constrain(_greedy(_penalised(logits, seen, penalty)), (None,))


@functools.partial(
    jax.jit, static_argnames=("graphdef", "steps", "penalty"), donate_argnames=("cache", "seen")
)
def decode(
    state: Any,
    tokens: Int[Array, " rows"],
    positions: Int[Array, " rows"],
    cache: KVCache,
    seen: Seen | None,
    prefix: KVCache | None,
    *,
    graphdef: Graph,
    steps: int,
    penalty: float,
) -> tuple[KVCache, Seen | None, Int[Array, "steps rows"]]:
    """Reads each row's token at its position and goes on from there for some steps.

    A row at `EMPTY` idles.
    """
    model = nnx.merge(graphdef, state)
    rows = jnp.arange(tokens.shape[0])

    def step(carry, _):
        tokens, positions, cache, seen = carry
        if seen is not None:
            seen = seen.at[rows, tokens].set(True)
        hidden, cache = model(tokens[:, None], positions[:, None], cache=cache, prefix=prefix)
        logits = next_token_logits(model, hidden[:, 0])
        tokens = _greedy(_penalised(logits, seen, penalty))
        positions = jnp.where(positions == EMPTY, EMPTY, positions + 1)
        return (tokens, positions, cache, seen), tokens

    carry: Any = tokens, positions, cache, seen
    carry, drawn = lax.scan(step, carry, length=steps)
    return carry[2], carry[3], constrain(drawn, (None, None))


@functools.partial(jax.jit, static_argnames=("graphdef",), donate_argnames=("cache",))
def insert(
    state: Any,
    cache: KVCache,
    prompts: KVCache,
    rows: Int[Array, " prompts"],
    count: Int[Array, ""] | int,
    *,
    graphdef: Graph,
) -> KVCache:
    """Puts the first `count` prompts into the given rows, up to the next free slot."""
    del state, graphdef
    start = cache.used - prompts.length
    cache = dataclasses.replace(cache, positions=cache.positions.at[rows].set(EMPTY, mode="drop"))

    def put(index, cache):
        def placed(whole: jax.Array, part: jax.Array, axis: int, slots: int) -> jax.Array:
            one = lax.dynamic_slice_in_dim(part, index, 1, axis)
            at = [jnp.int32(0)] * whole.ndim
            at[axis], at[slots] = rows[index], start
            return lax.dynamic_update_slice(whole, one, at)

        return dataclasses.replace(
            cache,
            key=placed(cache.key, prompts.key, 1, 3),
            value=placed(cache.value, prompts.value, 1, 3),
            positions=placed(cache.positions, prompts.positions, 0, 1),
        )

    return lax.fori_loop(0, count, put, cache)


@functools.partial(jax.jit, static_argnames=("graphdef",), donate_argnames=("seen",))
def insert_seen(
    state: Any, seen: Seen, prompts: Seen, rows: Int[Array, " prompts"], *, graphdef: Graph
) -> Seen:
    """Puts the tokens of some prompts into the given rows; a row beyond the last is none."""
    del state, graphdef
    return seen.at[rows].set(prompts, mode="drop")


@functools.partial(jax.jit, static_argnames=("graphdef",), donate_argnames=("cache",))
def move(state: Any, cache: KVCache, used: Int[Array, ""] | int, *, graphdef: Graph) -> KVCache:
    """The cache with its tokens moved so that the next free slot is number `used`."""
    del state, graphdef
    by = used - cache.used
    slots = jnp.arange(cache.length)[None]
    return KVCache(
        key=jnp.roll(cache.key, by, axis=3),
        value=jnp.roll(cache.value, by, axis=3),
        positions=jnp.where(slots < used, jnp.roll(cache.positions, by, axis=1), EMPTY),
        used=jnp.asarray(used, jnp.int32),
    )


@functools.partial(jax.jit, static_argnames=("graphdef", "length"))
def grow(state: Any, cache: KVCache, *, graphdef: Graph, length: int) -> KVCache:
    """The cache with more slots."""
    del state, graphdef
    more = length - cache.length
    wide = ((0, 0), (0, 0), (0, 0), (0, more), (0, 0))
    return dataclasses.replace(
        cache,
        key=jnp.pad(cache.key, wide),
        value=jnp.pad(cache.value, wide),
        positions=jnp.pad(cache.positions, ((0, 0), (0, more)), constant_values=EMPTY),
    )


@functools.partial(jax.jit, static_argnames=("graphdef",))
def take(
    state: Any,
    cache: KVCache,
    seen: Seen | None,
    rows: Int[Array, " kept"],
    *,
    graphdef: Graph,
) -> tuple[KVCache, Seen | None]:
    """Some of the rows."""
    del state, graphdef
    kept = dataclasses.replace(
        cache,
        key=jnp.take(cache.key, rows, axis=1),
        value=jnp.take(cache.value, rows, axis=1),
        positions=jnp.take(cache.positions, rows, axis=0),
    )
    return kept, None if seen is None else jnp.take(seen, rows, axis=0)


def _greedy(logits: Float[Array, "rows vocab"]) -> Int[Array, " rows"]:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def _penalised(
    logits: Float[Array, "rows vocab"], seen: Seen | None, penalty: float
) -> Float[Array, "rows vocab"]:
    """Makes tokens of the text so far less likely (arXiv:1909.05858, section 4.1)."""
    if seen is None:
        return logits
    return jnp.where(seen, jnp.where(logits < 0, logits * penalty, logits / penalty), logits)
