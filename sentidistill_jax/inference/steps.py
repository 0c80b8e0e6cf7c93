"""What an engine runs on the device: pure functions of parameters and batches.

Prompts are read chunk by chunk into a cache (`read`); from the hidden states at chosen places come
distributions (`distributions`), or first tokens of continuations, which then move to a row of the
decoding cache (`admit`) and are written there many tokens at a time (`decode`).

The module structure (`graphdef`) is a static argument, so engines of equal models share what has
been compiled. Every result is laid out in the same way whatever made it, or the next call that
takes it would compile anew.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sentidistill_jax.inference.distribution import (
    Keep,
    SparseDistribution,
    sparse_distribution,
)
from sentidistill_jax.inference.sampling import SamplingConfig, penalize, sample
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.kv_cache import CACHE_AXES, EMPTY, KVCache, SharedPrefix
from sentidistill_jax.sharding import axis_that_splits, backend, constrain, partition_spec

_DRAWS = 2**31 - 1  # a step that no text reaches
_INSERTED = 32  # slots that are moved to another cache at a time
NO_STOP = -2  # fills the table of stops; no token is it
ANY_TOKEN = -1  # in a stop: before its first token

Graph = nnx.GraphDef[Decoder]
Seen = Bool[Array, "rows vocab"]  # tokens of a row's text so far
Stops = Int[Array, "stops length"]  # runs of tokens that end a row, after `ANY_TOKEN`s


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """What is asked for each row of a batch of continuations."""

    rows: Int[Array, " batch"]  # which row of the decoding cache; beyond the last: none
    lengths: Int[Array, " batch"]  # tokens of the prompt, beginning included
    seeds: Int[Array, " batch"]
    chosen: Int[Array, "batch chosen"]  # tokens kept whatever their rank; -1 is padding
    seen: Seen | None  # tokens of the prompts; None where nothing is penalized


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecodeState:
    """Continuations under way, one per row; a row that is not live idles."""

    cache: KVCache
    tokens: Int[Array, " rows"]  # the latest of each, still to be read
    positions: Int[Array, " rows"]  # of the latest in the text
    written: Int[Array, " rows"]  # tokens so far
    recent: Int[Array, "rows length"]  # the last few tokens, the latest last
    live: Bool[Array, " rows"]
    seeds: Int[Array, " rows"]
    chosen: Int[Array, "rows chosen"]
    seen: Seen | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Drawn:
    """New tokens, of one step or stacked over steps."""

    tokens: Int[Array, "*steps rows"]
    distribution: SparseDistribution | None  # that each was drawn from, if kept


@functools.partial(jax.jit, static_argnames=("graphdef", "rows", "length"))
def empty_cache(state: Any, *, graphdef: Graph, rows: int, length: int) -> KVCache:
    """A cache without tokens."""
    model = nnx.merge(graphdef, state)
    return KVCache.zeros(model.config, rows, length, cache_dtype(model))


@functools.partial(jax.jit, static_argnames=("graphdef", "prefixes", "length"))
def empty_prefix(state: Any, *, graphdef: Graph, prefixes: int, length: int) -> SharedPrefix:
    """Beginnings of no tokens."""
    model = nnx.merge(graphdef, state)
    cache = KVCache.zeros(model.config, prefixes, length, cache_dtype(model))
    return _laid_out_prefix(SharedPrefix(cache.key, cache.value, cache.positions, cache.used))


@functools.partial(jax.jit, static_argnames=("graphdef",), donate_argnames=("prefix",))
def load_prefix(
    state: Any,
    prefix: SharedPrefix,
    beginnings: KVCache,
    rows: Int[Array, " prefixes"],
    replaced: Bool[Array, " prefixes"],
    *,
    graphdef: Graph,
) -> SharedPrefix:
    """Puts rows of beginnings that have been read in the place of some; row -1 is none."""
    del state, graphdef
    read = _rows_of(beginnings, rows)

    def choose(old: jax.Array, new: jax.Array, axis: int) -> jax.Array:
        shape = [1] * old.ndim
        shape[axis] = len(replaced)
        return jnp.where(replaced.reshape(shape), new, old)

    return _laid_out_prefix(
        SharedPrefix(
            key=choose(prefix.key, read.key, 1),
            value=choose(prefix.value, read.value, 1),
            positions=choose(prefix.positions, read.positions, 0),
            used=jnp.maximum(prefix.used, beginnings.used),
        )
    )


@functools.partial(
    jax.jit,
    static_argnames=("graphdef", "rows", "length", "stop_length", "chosen", "penalized"),
)
def empty_rows(
    state: Any,
    *,
    graphdef: Graph,
    rows: int,
    length: int,
    stop_length: int,
    chosen: int,
    penalized: bool,
) -> DecodeState:
    """Rows that idle."""
    model = nnx.merge(graphdef, state)
    zeros = jnp.zeros(rows, jnp.int32)
    return _laid_out(
        DecodeState(
            cache=KVCache.zeros(model.config, rows, length, cache_dtype(model)),
            tokens=zeros,
            positions=zeros,
            written=zeros,
            recent=jnp.full((rows, stop_length), NO_STOP, jnp.int32),
            live=jnp.zeros(rows, jnp.bool_),
            seeds=zeros,
            chosen=jnp.full((rows, chosen), -1, jnp.int32),
            seen=jnp.zeros((rows, model.config.vocab_size), jnp.bool_) if penalized else None,
        )
    )


@functools.partial(jax.jit, static_argnames=("graphdef",), donate_argnames=("cache", "picked"))
def read(
    state: Any,
    tokens: Int[Array, "rows chunk"],
    positions: Int[Array, "rows chunk"],
    first: Bool[Array, ""] | bool,
    cache: KVCache,
    prefix: SharedPrefix | None,
    picks: tuple[Int[Array, " picks"], Int[Array, " picks"]],
    picked: Float[Array, "picks embed"],
    *,
    graphdef: Graph,
) -> tuple[KVCache, Float[Array, "picks embed"]]:
    """Reads the next chunk of some prompts.

    Args:
      state: Parameters.
      tokens: Of the chunk.
      positions: In the prompts, beginnings included; `EMPTY` for padding.
      first: Whether the prompts start here; what the cache held is forgotten then.
      cache: Holds the chunks before.
      prefix: What all rows have read before.
      picks: Row and column of hidden states that are wanted; column -1: not in this chunk.
      picked: Those of the chunks before.
      graphdef: The model.

    Returns:
      The cache with the chunk, and the picked hidden states with those of the chunk.
    """
    model = nnx.merge(graphdef, state)
    cache = dataclasses.replace(
        cache,
        positions=jnp.where(first, EMPTY, cache.positions),
        used=jnp.where(first, 0, cache.used),
        reach=jnp.where(first, 0, cache.reach),
    )
    hidden, after = model(tokens, positions, cache=cache, prefix=prefix)
    assert after is not None
    rows, columns = picks
    found = hidden[rows, jnp.maximum(columns, 0)]
    picked = jnp.where(columns[:, None] >= 0, found, picked)
    return _laid_out_cache(after), constrain(picked, (None, None))


@functools.partial(jax.jit, static_argnames=("graphdef",))
def start_rows(
    state: Any, beginnings: KVCache, rows: Int[Array, " rows"], *, graphdef: Graph
) -> KVCache:
    """A cache whose rows hold beginnings that have been read; -1 is a row without one."""
    del state, graphdef
    return _laid_out_cache(_rows_of(beginnings, rows))


@functools.partial(jax.jit, static_argnames=("graphdef", "keep"))
def distributions(
    state: Any,
    picked: Float[Array, "all_picks embed"],
    first: Int[Array, ""] | int,
    chosen: Int[Array, "picks chosen"],
    seeds: Int[Array, " picks"],
    offsets: Int[Array, " picks"],
    seen: Seen | None,
    penalty: Float[Array, ""] | float,
    *,
    graphdef: Graph,
    keep: Keep,
) -> SparseDistribution:
    """Next-token distributions at some of the picked hidden states.

    Args:
      state: Parameters.
      picked: Hidden states.
      first: Where those that are asked about begin.
      chosen: Tokens kept whatever their rank; -1 is padding.
      seeds: Of draws, by request.
      offsets: Of the place among those of its request.
      seen: Tokens that are penalized.
      penalty: See `sampling.penalize`.
      graphdef: The model.
      keep: What is kept.
    """
    hidden = lax.dynamic_slice_in_dim(picked, first, len(chosen))
    logits = next_token_logits(nnx.merge(graphdef, state), hidden)
    return _kept(penalize(logits, seen, penalty), chosen, seeds, offsets, keep)


@functools.partial(
    jax.jit,
    static_argnames=("graphdef", "chunk", "sampling", "keep"),
    donate_argnames=("decoding",),
)
def admit(
    state: Any,
    decoding: DecodeState,
    cache: KVCache,
    own: Int[Array, ""] | int,
    picked: Float[Array, "batch embed"],
    asked: Rows,
    stops: Stops,
    budget: Int[Array, ""] | int,
    penalty: Float[Array, ""] | float,
    *,
    graphdef: Graph,
    chunk: int,
    sampling: SamplingConfig,
    keep: Keep | None,
) -> tuple[DecodeState, Drawn]:
    """Draws the first tokens of prompts that have been read, and starts their rows.

    Args:
      state: Parameters.
      decoding: Gets the rows.
      cache: Holds the prompts, which all end at its latest slot.
      own: How many of the latest slots go along; what is before them the rows find in a prefix.
      picked: Hidden states after the prompts.
      asked: Where they go and what is asked.
      stops: What ends a row.
      budget: Tokens of a continuation at most.
      penalty: See `sampling.penalize`.
      graphdef: The model.
      chunk: Divides `own`.
      sampling: How tokens are drawn.
      keep: What is kept of distributions, None for nothing.
    """
    model = nnx.merge(graphdef, state)
    step = jnp.zeros_like(asked.seeds)
    logits = penalize(next_token_logits(model, picked), asked.seen, penalty)
    drawn = _draw(logits, asked.seeds, step, asked.chosen, sampling, keep)

    def put(old: jax.Array, new: jax.Array) -> jax.Array:
        return old.at[asked.rows].set(new, mode="drop")

    recent = jnp.full((len(asked.rows), decoding.recent.shape[1]), NO_STOP, jnp.int32)
    recent = recent.at[:, -1].set(drawn.tokens)
    seen = decoding.seen
    if seen is not None:
        assert asked.seen is not None
        seen = put(seen, asked.seen)
    live = ~_ends(recent, stops) & (budget > 1)
    return _laid_out(
        DecodeState(
            cache=_insert(decoding.cache, cache, asked.rows, own, min(chunk, _INSERTED)),
            tokens=put(decoding.tokens, drawn.tokens),
            positions=put(decoding.positions, asked.lengths),
            written=put(decoding.written, jnp.ones_like(step)),
            recent=put(decoding.recent, recent),
            live=put(decoding.live, live),
            seeds=put(decoding.seeds, asked.seeds),
            chosen=put(decoding.chosen, asked.chosen),
            seen=seen,
        )
    ), _replicated(drawn)


@functools.partial(
    jax.jit,
    static_argnames=("graphdef", "steps", "sampling", "keep"),
    donate_argnames=("decoding",),
)
def decode(
    state: Any,
    decoding: DecodeState,
    prefix: SharedPrefix | None,
    ended: Bool[Array, " rows"],
    stops: Stops,
    budget: Int[Array, ""] | int,
    leave_at: Int[Array, ""] | int,
    penalty: Float[Array, ""] | float,
    *,
    graphdef: Graph,
    steps: int,
    sampling: SamplingConfig,
    keep: Keep | None,
) -> tuple[DecodeState, Drawn]:
    """Writes up to `steps` tokens of every live row, without the host.

    Args:
      state: Parameters.
      decoding: The rows.
      prefix: What they have read before.
      ended: Rows that the host knows to be complete; they idle from now on.
      stops: What ends a row.
      budget: Tokens of a continuation at most.
      leave_at: It stops early when no more than so many rows are live.
      penalty: See `sampling.penalize`.
      graphdef: The model.
      steps: Tokens at most.
      sampling: How tokens are drawn.
      keep: What is kept of distributions, None for nothing.

    Returns:
      The rows, and what was drawn [steps, rows, ...]: a row's own tokens are the first of its
      column, as many as its `written` has grown by.
    """
    model = nnx.merge(graphdef, state)
    decoding = dataclasses.replace(decoding, live=decoding.live & ~ended)
    numbers = jnp.arange(len(decoding.tokens))
    beginnings = jnp.zeros_like(numbers)  # tokens of each row that are in the prefix
    if prefix is not None:
        beginnings = jnp.repeat(prefix.lengths, len(numbers) // len(prefix.lengths))

    def step(decoding: DecodeState) -> tuple[DecodeState, Drawn]:
        live = decoding.live
        positions = jnp.where(live, decoding.positions, EMPTY)
        filled = jnp.max(jnp.where(live, decoding.positions - beginnings, 0))
        cache = dataclasses.replace(decoding.cache, reach=filled)
        hidden, cache = model(
            decoding.tokens[:, None], positions[:, None], cache=cache, prefix=prefix
        )
        assert cache is not None
        seen = decoding.seen
        if seen is not None:
            seen = seen.at[numbers, decoding.tokens].set(seen[numbers, decoding.tokens] | live)
        logits = penalize(next_token_logits(model, hidden[:, 0]), seen, penalty)
        drawn = _draw(logits, decoding.seeds, decoding.written, decoding.chosen, sampling, keep)
        recent = jnp.concatenate([decoding.recent[:, 1:], drawn.tokens[:, None]], axis=1)
        written = decoding.written + live
        after = DecodeState(
            cache=cache,
            tokens=drawn.tokens,
            positions=decoding.positions + live,
            written=written,
            recent=recent,
            live=live & ~_ends(recent, stops) & (written < budget),
            seeds=decoding.seeds,
            chosen=decoding.chosen,
            seen=seen,
        )
        return _laid_out(after), _replicated(drawn)

    def going_on(carry) -> Bool[Array, ""]:
        count, decoding, _ = carry
        return (count < steps) & (jnp.sum(decoding.live) > leave_at)

    def body(carry):
        count, decoding, kept = carry
        decoding, drawn = step(decoding)
        kept = jax.tree.map(
            lambda stack, one: lax.dynamic_update_index_in_dim(stack, one, count, 0), kept, drawn
        )
        return count + 1, decoding, kept

    shapes = jax.eval_shape(step, decoding)[1]
    kept = jax.tree.map(lambda leaf: jnp.zeros((steps, *leaf.shape), leaf.dtype), shapes)
    _, decoding, kept = lax.while_loop(going_on, body, (jnp.int32(0), decoding, kept))
    return _laid_out(decoding), _replicated(kept)


@functools.partial(jax.jit, static_argnames=("graphdef",))
def take_rows(
    state: Any, decoding: DecodeState, rows: Int[Array, " kept"], *, graphdef: Graph
) -> DecodeState:
    """Some of the rows."""
    del state, graphdef
    cache = decoding.cache

    def take(leaf: jax.Array) -> jax.Array:
        return jnp.take(leaf, rows, axis=0)

    others = {
        field.name: getattr(decoding, field.name)
        for field in dataclasses.fields(decoding)
        if field.name != "cache"
    }
    return _laid_out(
        DecodeState(
            cache=dataclasses.replace(
                cache,
                key=jnp.take(cache.key, rows, axis=1),
                value=jnp.take(cache.value, rows, axis=1),
                positions=take(cache.positions),
            ),
            **jax.tree.map(take, others),
        )
    )


def cache_dtype(model: Decoder) -> jnp.dtype:
    """Dtype of keys and values."""
    # XLA writes to a bfloat16 array on a CPU by converting all of it forth and back.
    words = backend() == "cpu" and model.dtype == jnp.bfloat16
    return jnp.dtype(jnp.uint16) if words else model.dtype


def next_token_logits(
    model: Decoder, hidden: Float[Array, "rows embed"]
) -> Float[Array, "rows vocab"]:
    """Raw scores, rows and vocabulary split over the mesh."""
    # The vocabulary stays split, or the compiler might gather the head instead of its result.
    hidden = constrain(hidden, ("batch", "activation_embed"))
    return constrain(model.logits(hidden), ("batch", "vocab"))


def _draw(
    logits: Float[Array, "rows vocab"],
    seeds: Int[Array, " rows"],
    steps: Int[Array, " rows"],
    chosen: Int[Array, "rows chosen"],
    sampling: SamplingConfig,
    keep: Keep | None,
) -> Drawn:
    # A key per row and step, so that a draw depends neither on its batch nor on its length.
    keys = jax.vmap(lambda seed, step: jax.random.fold_in(jax.random.key(seed), step))(seeds, steps)
    tokens = sample(logits, keys, sampling)
    if keep is None:
        return Drawn(tokens, None)
    chosen = jnp.concatenate([tokens[:, None], chosen], axis=1)
    return Drawn(tokens, _kept(logits, chosen, seeds, steps, keep))


def _ends(recent: Int[Array, "rows length"], stops: Stops) -> Bool[Array, " rows"]:
    """Whether a stop ends with the latest token of a row."""
    same = (stops == ANY_TOKEN)[None] | (stops[None] == recent[:, None])
    return jnp.any(jnp.all(same, axis=-1), axis=-1)


def _rows_of(cache: KVCache, rows: Int[Array, " rows"]) -> KVCache:
    """Some rows of a cache; -1 is a row without tokens."""
    chosen = jnp.maximum(rows, 0)
    positions = jnp.take(cache.positions, chosen, axis=0)
    return dataclasses.replace(
        cache,
        key=jnp.take(cache.key, chosen, axis=1),
        value=jnp.take(cache.value, chosen, axis=1),
        positions=jnp.where((rows >= 0)[:, None], positions, EMPTY),
    )


def _insert(
    into: KVCache, prompts: KVCache, rows: Int[Array, " batch"], own: Any, block: int
) -> KVCache:
    """The latest slots of prompts moved to rows of another cache, to end at its latest as well."""

    def put(index: Int[Array, ""], cache: KVCache) -> KVCache:
        start = prompts.used - (index + 1) * block
        slots = (cache.used - prompts.used + start + jnp.arange(block)) % cache.length
        at = rows[:, None], slots[None]

        def moved(stack: jax.Array, whole: jax.Array) -> jax.Array:
            part = lax.dynamic_slice_in_dim(stack, start, block, axis=3)
            part = part.transpose(1, 3, 0, 2, 4)  # batch and slots first, as indices put them
            return whole.at[:, at[0], :, at[1]].set(part, mode="drop")

        places = lax.dynamic_slice_in_dim(prompts.positions, start, block, axis=1)
        return dataclasses.replace(
            cache,
            key=moved(prompts.key, cache.key),
            value=moved(prompts.value, cache.value),
            positions=cache.positions.at[at].set(places, mode="drop"),
        )

    emptied = into.positions.at[rows].set(EMPTY, mode="drop")
    return lax.fori_loop(0, own // block, put, dataclasses.replace(into, positions=emptied))


def _laid_out_cache(cache: KVCache) -> KVCache:
    return dataclasses.replace(
        cache,
        key=constrain(cache.key, CACHE_AXES),
        value=constrain(cache.value, CACHE_AXES),
        positions=constrain(cache.positions, ("batch", "seq")),
    )


def _laid_out_prefix(prefix: SharedPrefix) -> SharedPrefix:
    axes = ("layers", None, "kv_heads", "seq", "head_dim")
    return dataclasses.replace(
        prefix,
        key=constrain(prefix.key, axes),
        value=constrain(prefix.value, axes),
        positions=constrain(prefix.positions, (None, None)),
    )


def _laid_out(decoding: DecodeState) -> DecodeState:
    """The rows over the mesh, what is small on every device."""
    return dataclasses.replace(
        _replicated(decoding, but=("cache", "seen")),
        cache=_laid_out_cache(decoding.cache),
        seen=None if decoding.seen is None else constrain(decoding.seen, ("batch", None)),
    )


def _replicated(values: Any, but: tuple[str, ...] = ()) -> Any:
    """The fields of a dataclass on every device, so that every process can look at them."""
    return dataclasses.replace(
        values,
        **{
            field.name: jax.tree.map(
                lambda leaf: constrain(leaf, (None,) * leaf.ndim), getattr(values, field.name)
            )
            for field in dataclasses.fields(values)
            if field.name not in but
        },
    )


def _kept(
    logits: Float[Array, "rows vocab"],
    chosen: Int[Array, "rows chosen"],
    seeds: Int[Array, " rows"],
    steps: Int[Array, " rows"],
    keep: Keep,
) -> SparseDistribution:
    """Every device reduces its part: left to itself the compiler gathers all for a top-k."""
    vocab_axis = axis_that_splits("vocab", logits.shape[-1])
    rows, parts = partition_spec(("batch",)), jax.P(*partition_spec(("batch",)), vocab_axis)

    def reduce(logits, chosen, seeds, steps):
        # Other keys than those the tokens themselves are drawn with, for a draw of its own.
        keys = jax.vmap(
            lambda seed, step: jax.random.fold_in(
                jax.random.fold_in(jax.random.key(seed), _DRAWS), step
            )
        )(seeds, steps)
        return sparse_distribution(
            logits, chosen, keys, **dataclasses.asdict(keep), vocab_axis=vocab_axis
        )

    # What comes out is the same on all parts of a row, which the check cannot see through top-k.
    reduced = jax.shard_map(
        reduce, in_specs=(parts, rows, rows, rows), out_specs=rows, check_vma=False
    )
    return _replicated(reduced(logits, chosen, seeds, steps))
