"""A pruned decoder that starts near the whole one: its MLPs take over what removed layers did.

Layers that were pruned leave the residual stream far from where the next one expects it. The output
of an MLP is linear in its down projection, so the projection that brings the stream nearest to the
whole decoder's is a least-squares problem, solved layer by layer without training. Removed layers
as one linear map of what stands before them: arXiv:2505.02819; layers that each correct the error
of those before, as in one-shot weight pruning: arXiv:2301.00774.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from sentidistill_jax.models.decoder import Block, Decoder
from sentidistill_jax.sharding import replicated

_ROWS = 8  # of a forward pass
_LENGTH = 256  # rows have a multiple of as many tokens
# How strongly a projection is held to what it was, relative to the mean square of what it reads.
_RIDGE = 1e-2
_TINY = float(jnp.finfo(jnp.float32).tiny)

# A least-squares problem, summed over tokens: products of its inputs, and of these with outputs.
_Sums = tuple[Float[Array, "..."], Float[Array, "..."]]
# From a layer, hidden states before its MLP, what it should add to them, and weights of tokens.
_Equations = Callable[[Block, Array, Array, Array], _Sums]


def refit(
    pruned: Decoder,
    whole: Decoder,
    layers: Sequence[int],
    sequences: Sequence[np.ndarray],
    mesh: Mesh,
) -> Decoder:
    """The pruned decoder with down projections by which its layers end where the whole one's do.

    Each of its layers ends as near as can be to where the whole decoder enters the next layer that
    was kept, and the last one to where it ends. An error counts relative to the size of the hidden
    state, since norms read nothing else.

    Args:
      pruned: `whole` with some layers, heads or MLP channels; stays as it is.
      whole: What it was pruned from, as wide along `embed`.
      layers: Which layers of `whole` it has.
      sequences: Token ids, each int32 [seq]; in all many more tokens than an MLP has channels,
        since a projection that few decide fits these alone.
      mesh: Where the parameters are.
    """
    batches = _packed(sequences)
    graphdef, state = nnx.split(pruned)
    state = jax.tree.map(lambda value: value, state)  # the variables of `pruned` stay as they are
    whole_graphdef, whole_state = nnx.split(whole)
    ends = jnp.asarray([*(layer - 1 for layer in layers[1:]), whole.config.num_layers - 1])

    @jax.jit
    def begin(state: nnx.State, whole_state: nnx.State, batch: _Batch) -> tuple[Array, Array]:
        """Hidden states before the first layer, and where each layer should end."""
        every = nnx.merge(whole_graphdef, whole_state).layer_statistics(
            batch.tokens, batch.positions, lambda before, after: after,
            segment_ids=batch.segment_ids,
        )  # fmt: skip
        return nnx.merge(graphdef, state).embed(batch.tokens), every[ends]

    @jax.jit
    def attend(state: nnx.State, layer: int, x: Array, batch: _Batch) -> Array:
        decoder = nnx.merge(graphdef, state)
        return decoder.attend_in_layer(layer, x, batch.positions, batch.segment_ids)

    @jax.jit
    def feed_forward(state: nnx.State, layer: int, x: Array) -> Array:
        return nnx.merge(graphdef, state).block(layer).feed_forward(x)

    @functools.partial(jax.jit, static_argnames="equations", out_shardings=replicated(mesh))
    def in_batch(state, layer, x, targets, batch, *, equations: _Equations) -> _Sums:
        target = targets[layer].astype(jnp.float32)
        weights = (batch.segment_ids > 0) / (jnp.mean(jnp.square(target), axis=-1) + _TINY)
        block = nnx.merge(graphdef, state).block(layer)
        return equations(block, x, target - x.astype(jnp.float32), weights)

    def sums(layer: int, equations: _Equations) -> list[np.ndarray]:
        parts = [
            jax.device_get(in_batch(state, layer, *one, equations=equations))
            for one in zip(x, targets, batches, strict=True)
        ]
        return [np.asarray(sum(part), np.float64) for part in zip(*parts, strict=True)]

    with jax.set_mesh(mesh):
        x, targets = map(
            list, zip(*(begin(state, whole_state, batch) for batch in batches), strict=True)
        )
        for layer in range(len(layers)):
            x = [attend(state, layer, *one) for one in zip(x, batches, strict=True)]
            products, missing = sums(layer, _of_projection)
            ridge = _RIDGE * np.trace(products) / len(products)
            change = np.linalg.solve(products + ridge * np.eye(len(products)), missing)
            _add(state["layers"]["mlp"]["down_proj"], layer, change)
            if pruned.config.family.sandwich_norms:
                squares, missing = sums(layer, _of_norm)
                _add(
                    state["layers"]["post_mlp_norm"]["scale"], layer,
                    missing / np.maximum(squares, _TINY),
                )  # fmt: skip
            x = [feed_forward(state, layer, hidden) for hidden in x]
    return nnx.merge(graphdef, state)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Batch:
    """Sequences side by side in rows."""

    tokens: Int[Array, "batch seq"]
    positions: Int[Array, "batch seq"]
    segment_ids: Int[Array, "batch seq"]  # 0: padding


def _of_projection(block: Block, x: Array, missing: Array, weights: Array) -> _Sums:
    """How the down projection should change: what it reads, and what its output lacks."""
    read = block.mlp.hidden(block.mlp_norm(x)).astype(jnp.float32)
    if block.sandwich_norms:  # the norm behind the projection leaves nothing but its direction
        squares = jnp.mean(jnp.square(missing), axis=-1) + _TINY
        missing, weights = missing / jnp.sqrt(squares)[..., None], weights * squares
    now = jnp.einsum("bsf,fe->bse", read, block.mlp.down_proj[...].astype(jnp.float32))
    weighted = read * weights[..., None]
    return (
        jnp.einsum("bsf,bsg->fg", weighted, read),
        jnp.einsum("bsf,bse->fe", weighted, missing - now),
    )


def _of_norm(block: Block, x: Array, missing: Array, weights: Array) -> _Sums:
    """How the scale of the norm behind the MLP should change, each channel by itself."""
    unscaled = nnx.clone(block.post_mlp_norm)
    unscaled.scale.set_value(jnp.full_like(unscaled.scale.get_value(), 1 - unscaled.offset))
    expanded = block.mlp(block.mlp_norm(x)).astype(jnp.float32)
    normed, now = unscaled(expanded), block.post_mlp_norm(expanded)
    return (
        jnp.einsum("bse,bse,bs->e", normed, normed, weights),
        jnp.einsum("bse,bse,bs->e", normed, missing - now, weights),
    )


def _add(parameter: Any, layer: int, change: np.ndarray) -> None:
    value = parameter.get_value()
    parameter.set_value(value.at[layer].add(jnp.asarray(change, value.dtype)))


def _packed(sequences: Sequence[np.ndarray]) -> list[_Batch]:
    longest = max(len(sequence) for sequence in sequences)
    length = -(-longest // _LENGTH) * _LENGTH
    rows: list[list[np.ndarray]] = [[]]
    for sequence in sequences:
        if sum(map(len, rows[-1])) + len(sequence) > length:
            rows.append([])
        rows[-1].append(sequence)
    shape = -(-len(rows) // _ROWS), _ROWS, length
    tokens, positions, segment_ids = np.zeros((3, *shape), np.int32)
    for number, row in enumerate(rows):
        place, at = divmod(number, _ROWS), 0
        for segment, sequence in enumerate(row, start=1):
            here = (*place, slice(at, at + len(sequence)))
            tokens[here], segment_ids[here] = sequence, segment
            positions[here] = np.arange(len(sequence))
            at += len(sequence)
    return [_Batch(*parts) for parts in zip(tokens, positions, segment_ids, strict=True)]
