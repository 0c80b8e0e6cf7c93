"""What an engine runs on the device: pure functions of parameters and batches.

The module structure (`graphdef`) is a static argument, so engines of equal models share what has
been compiled.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int

from sentidistill_jax.inference.batching import PromptBatch, ScoreBatch
from sentidistill_jax.inference.distribution import (
    Keep,
    SparseDistribution,
    sparse_distribution,
)
from sentidistill_jax.inference.sampling import SamplingConfig, sample
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.kv_cache import EMPTY, KVCache
from sentidistill_jax.sharding import (
    axis_that_splits,
    backend,
    batch_rows,
    constrain,
    partition_spec,
)

_HEAD_ROWS = 128  # positions whose logits exist at one time, times the ways the batch is split
_DRAWS = 2**31 - 1  # a step that no text reaches

Graph = nnx.GraphDef[Decoder]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Drawn:
    """One new token per row."""

    tokens: Int[Array, " rows"]
    distribution: SparseDistribution | None  # [rows, ...] that it was drawn from, if kept


@functools.partial(jax.jit, static_argnames=("graphdef",))
def read_prefix(state: Any, tokens: Int[Array, "1 prefix"], *, graphdef: Graph) -> KVCache:
    """Keys and values of a beginning that all rows share."""
    model = nnx.merge(graphdef, state)
    cache = KVCache.zeros(model.config, 1, tokens.shape[1], cache_dtype(model))
    _, cache = model(tokens, jnp.arange(tokens.shape[1])[None], cache=cache)
    assert cache is not None
    return cache


@functools.partial(jax.jit, static_argnames=("graphdef", "keep"))
def score(
    state: Any,
    batch: ScoreBatch,
    prefix: KVCache | None,
    *,
    graphdef: Graph,
    keep: Keep,
) -> SparseDistribution:
    """Distributions [rows, scored, ...] predicted from `batch.predict_from`."""
    model = nnx.merge(graphdef, state)
    hidden, _ = model(batch.tokens, batch.positions, segment_ids=batch.segment_ids, prefix=prefix)
    hidden = jnp.take_along_axis(hidden, batch.predict_from[:, :, None], axis=1)

    def at_position(args):
        of_rows, chosen, seeds, offsets = args
        return _kept(next_token_logits(model, of_rows), chosen, seeds, offsets, keep)

    # The head takes a few positions of all rows at a time: logits of all would not fit, and the
    # rows stay where they are.
    by_position = (
        constrain(hidden.swapaxes(0, 1), ("seq", "batch", "activation_embed")),
        batch.chosen.swapaxes(0, 1),
        batch.seeds.swapaxes(0, 1),
        batch.offsets.swapaxes(0, 1),
    )
    ways = batch_rows(jax.sharding.get_abstract_mesh())
    at_once = max(1, _HEAD_ROWS * ways // hidden.shape[0])
    scores = lax.map(at_position, by_position, batch_size=min(at_once, hidden.shape[1]))
    return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), scores)


@functools.partial(jax.jit, static_argnames=("graphdef", "slots", "sampling", "keep"))
def prefill(
    state: Any,
    prompts: PromptBatch,
    prefix: KVCache | None,
    *,
    graphdef: Graph,
    slots: int,
    sampling: SamplingConfig,
    keep: Keep | None,
) -> tuple[KVCache, Drawn]:
    """Reads prompts into a cache of `slots` per row, and draws token number 0."""
    model = nnx.merge(graphdef, state)
    rows, length = prompts.tokens.shape
    columns = jnp.arange(length)[None]
    positions = jnp.where(columns < prompts.lengths[:, None], _offset(prefix) + columns, EMPTY)
    cache = KVCache.zeros(model.config, rows, slots, cache_dtype(model))
    hidden, cache = model(prompts.tokens, positions, cache=cache, prefix=prefix)
    assert cache is not None
    last = jnp.take_along_axis(hidden, (prompts.lengths - 1)[:, None, None], axis=1)[:, 0]
    return cache, _draw(model, last, prompts, jnp.int32(0), sampling, keep)


@functools.partial(
    jax.jit,
    static_argnames=("graphdef", "sampling", "keep"),
    donate_argnames=("cache",),
)
def decode(
    state: Any,
    prompts: PromptBatch,
    prefix: KVCache | None,
    cache: KVCache,
    previous: Int[Array, " rows"],
    step: Int[Array, ""] | int,
    *,
    graphdef: Graph,
    sampling: SamplingConfig,
    keep: Keep | None,
) -> tuple[KVCache, Drawn]:
    """Reads token number `step - 1` of every row, and draws number `step`."""
    model = nnx.merge(graphdef, state)
    positions = _offset(prefix) + prompts.lengths + step - 1
    hidden, updated = model(previous[:, None], positions[:, None], cache=cache, prefix=prefix)
    assert updated is not None
    return updated, _draw(model, hidden[:, 0], prompts, step, sampling, keep)


def cache_dtype(model: Decoder) -> jnp.dtype:
    """Of keys and values."""
    # A CPU attends in float32 whatever the dtype, and XLA writes to a bfloat16 array there by
    # converting all of it forth and back.
    return jnp.dtype(jnp.float32) if backend() == "cpu" else model.dtype


def _offset(prefix: KVCache | None) -> int:
    return 0 if prefix is None else prefix.length


def _draw(
    model: Decoder,
    hidden: Float[Array, "rows embed"],
    prompts: PromptBatch,
    step: Int[Array, ""] | int,
    sampling: SamplingConfig,
    keep: Keep | None,
) -> Drawn:
    logits = next_token_logits(model, hidden)
    # A key per row and step, so that a draw depends neither on its batch nor on its length.
    keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), step))(prompts.seeds)
    tokens = sample(logits, keys, sampling)
    if keep is None:
        return Drawn(tokens, None)
    chosen = jnp.concatenate([tokens[:, None], prompts.chosen], axis=1)
    steps = jnp.broadcast_to(step, tokens.shape)
    return Drawn(tokens, _kept(logits, chosen, prompts.seeds, steps, keep))


def next_token_logits(
    model: Decoder, hidden: Float[Array, "rows embed"]
) -> Float[Array, "rows vocab"]:
    """Raw scores, rows and vocabulary split over the mesh."""
    # The vocabulary stays split, or the compiler might gather the head instead of its result.
    return constrain(model.logits(hidden), ("batch", "vocab"))


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
    return reduced(logits, chosen, seeds, steps)
