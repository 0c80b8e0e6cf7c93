"""Which layers, channels and heads of a decoder matter, measured on texts and on weights."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float

from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.sharding import replicated

LAYER_CHOICES = ("first", "even", "importance")
_ROWS = 8  # sequences of a forward pass
_LENGTH_STEP = 64  # rows are padded to a multiple of it


@dataclasses.dataclass(frozen=True)
class ResidualStatistics:
    """What a decoder's layers do to its residual stream, averaged over tokens."""

    # 1 - cosine similarity of a layer's output with its input: block influence, arXiv:2403.03853.
    influence: Float[np.ndarray, " layers"]
    # Share of each channel in the squared norm of the input of every layer, and of the final norm.
    energy: Float[np.ndarray, "layers_and_final embed"]


def residual_statistics(
    model: Decoder, sequences: Sequence[np.ndarray], mesh: Mesh
) -> ResidualStatistics:
    """Runs a decoder over texts; every token weighs the same.

    Args:
      model: Any decoder.
      sequences: Token ids, each int32 [seq]; at least one.
      mesh: Where the parameters are.
    """
    longest = max(len(tokens) for tokens in sequences)
    length = -(-longest // _LENGTH_STEP) * _LENGTH_STEP
    tokens = np.zeros((-(-len(sequences) // _ROWS) * _ROWS, length), np.int32)
    real = np.zeros(tokens.shape, np.int32)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence)] = sequence
        real[row, : len(sequence)] = 1
    graphdef, state = nnx.split(model)
    positions = np.tile(np.arange(length, dtype=np.int32), (_ROWS, 1))

    def sums(state: nnx.State, tokens: Array, real: Array) -> tuple[Array, Array, Array]:
        weights = real.astype(jnp.float32)

        def measure(before: Array, after: Array) -> tuple[Array, Array, Array]:
            one, other = (x.astype(jnp.float32) for x in (before, after))
            squares = [
                jnp.maximum(jnp.sum(x * x, axis=-1), jnp.finfo(jnp.float32).tiny)
                for x in (one, other)
            ]
            cosine = jnp.sum(one * other, axis=-1) / jnp.sqrt(squares[0]) / jnp.sqrt(squares[1])
            energy_before, energy_after = (
                jnp.einsum("bs,bse->e", weights / square, x * x)
                for x, square in zip((one, other), squares, strict=True)
            )
            return jnp.sum((1 - cosine) * weights), energy_before, energy_after

        return nnx.merge(graphdef, state).layer_statistics(
            tokens, jnp.asarray(positions), measure, segment_ids=real
        )

    step = jax.jit(sums, out_shardings=replicated(mesh))
    with jax.set_mesh(mesh):
        parts = [
            jax.device_get(step(state, tokens[at : at + _ROWS], real[at : at + _ROWS]))
            for at in range(0, len(tokens), _ROWS)
        ]
    influence, before, after = (
        np.sum(arrays, axis=0) / real.sum() for arrays in zip(*parts, strict=True)
    )
    return ResidualStatistics(influence, np.concatenate([before, after[-1:]]))


def choose_layers(
    number: int, choice: str, influence: Float[np.ndarray, " layers"]
) -> tuple[int, ...]:
    """Which layers a student keeps, in their order.

    Args:
      number: How many.
      choice: `first` ones, `even`ly spaced ones with the first and the last among them, or those of
        most `importance`.
      influence: Importance of every layer; only their number counts for the other choices.

    Raises:
      ValueError: If there is no such choice, or there are fewer layers.
    """
    total = len(influence)
    if choice not in LAYER_CHOICES:
        raise ValueError(f"student.layer_choice={choice!r} must be one of {list(LAYER_CHOICES)}.")
    if not 1 <= number <= total:
        raise ValueError(
            f"student.num_layers={number} must be 1 to {total}, the layers of the model (0: all)."
        )
    if choice == "importance":
        return tuple(sorted(largest(influence, number).tolist()))
    if choice == "even" and number > 1:
        return tuple(round(index * (total - 1) / (number - 1)) for index in range(number))
    return tuple(range(number))


def largest(importance: np.ndarray, number: int) -> np.ndarray:
    """Indices of the `number` largest values along the last dim, ascending; the first of equals."""
    order = np.argsort(-importance, axis=-1, kind="stable")[..., :number]
    return np.sort(order, axis=-1)


def weight_importance(model: Decoder, axis: str, mesh: Mesh) -> Float[np.ndarray, "layers size"]:
    """Importance of the channels or heads inside every layer, from the weights alone.

    It is the sum of the logs of the norms of all matrices between the residual stream and a
    channel (mlp: gate, up and down; kv_heads: key, value, and query and output of its group). A
    product of norms does not change when scale moves from one matrix to the next, and is zero where
    one of them is.

    Args:
      model: Any decoder.
      axis: `mlp` or `kv_heads`.
      mesh: Where the parameters are.
    """
    config = model.config

    def logs(state: nnx.State) -> Array:
        total = jnp.zeros(())
        for _, variable in nnx.to_flat_state(state):
            axes = variable.get_metadata()["axes"]
            value = jnp.square(variable.get_value().astype(jnp.float32))
            if axis == "kv_heads" and "heads" in axes:  # a group counts as one
                number = axes.index("heads")
                shape = value.shape[:number], (config.num_kv_heads, -1), value.shape[number + 1 :]
                value = value.reshape(sum(shape, ()))
                axes = tuple("kv_heads" if one == "heads" else one for one in axes)
                value = value.sum(axis=number + 1)
            if axis not in axes or "embed" not in axes or axes[0] != "layers":
                continue
            others = tuple(n for n, one in enumerate(axes) if one not in ("layers", axis))
            norms = value.sum(axis=others)
            total = total + jnp.log(norms) / 2 if total.ndim else jnp.log(norms) / 2
        return total

    with jax.set_mesh(mesh):
        state = nnx.state(model, nnx.Param)
        return np.asarray(jax.jit(logs, out_shardings=replicated(mesh))(state))
