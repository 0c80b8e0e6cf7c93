"""Which layers, channels and heads of a decoder matter, measured on texts."""

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
    tokens, real = _padded([*sequences, *[np.zeros((0,), np.int32)] * (-len(sequences) % _ROWS)])
    graphdef, state = nnx.split(model)
    positions = np.tile(np.arange(tokens.shape[1], dtype=np.int32), (_ROWS, 1))

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


def width_importance(
    model: Decoder, sequences: Sequence[np.ndarray], mesh: Mesh
) -> dict[str, Float[np.ndarray, "layers size"]]:
    """How much the loss depends on each channel and head inside the layers.

    To first order, removing a group of weights changes the loss by the sum of weight times gradient
    over the group (arXiv:1906.10771). The importance is its square, added up over the parameters
    that a channel or head has and over sequences, each with its mean next-token cross entropy.

    Args:
      model: Any decoder.
      sequences: Token ids, each int32 [seq]; at least one, of at least two tokens.
      mesh: Where the parameters are.

    Returns:
      `mlp` and `kv_heads`, the latter with the query heads of its group.
    """
    config = model.config
    tokens, real = _padded(sequences)
    positions = jnp.arange(tokens.shape[1])[None]
    graphdef, state = nnx.split(model)

    def loss_of(state: nnx.State, tokens: Array, real: Array) -> Array:
        decoder = nnx.merge(graphdef, state)
        hidden, _ = decoder(tokens, positions, segment_ids=real)
        logprobs = jax.nn.log_softmax(decoder.logits(hidden[:, :-1]), axis=-1)
        chosen = jnp.take_along_axis(logprobs, tokens[:, 1:, None], axis=-1)[..., 0]
        weights = real[:, 1:].astype(jnp.float32)
        return -jnp.sum(chosen * weights) / jnp.sum(weights)

    def squares(state: nnx.State, tokens: Array, real: Array) -> dict[str, Array]:
        products = jax.tree.map(jnp.multiply, state, jax.grad(loss_of)(state, tokens, real))
        sums = {
            "mlp": jnp.zeros((config.num_layers, config.mlp_dim)),
            "kv_heads": jnp.zeros((config.num_layers, config.num_kv_heads)),
        }
        for _, variable in nnx.to_flat_state(products):
            axes = variable.get_metadata()["axes"]
            for number, name in enumerate(axes):
                axis = "kv_heads" if name == "heads" else name
                if axis in sums:
                    others = tuple(n for n in range(1, len(axes)) if n != number)
                    effect = jnp.sum(variable.get_value().astype(jnp.float32), axis=others)
                    grouped = effect.reshape(*sums[axis].shape, -1).sum(axis=-1)
                    sums[axis] += jnp.square(grouped)
        return sums

    step = jax.jit(squares, out_shardings=replicated(mesh))
    with jax.set_mesh(mesh):
        parts = [
            jax.device_get(step(state, tokens[row : row + 1], real[row : row + 1]))
            for row in range(len(sequences))
        ]
    return {axis: np.sum([part[axis] for part in parts], axis=0) for axis in ("mlp", "kv_heads")}


def _padded(sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens, and 1 where they are real, int32 [sequences, length]."""
    longest = max(len(tokens) for tokens in sequences)
    shape = len(sequences), -(-longest // _LENGTH_STEP) * _LENGTH_STEP
    tokens, real = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence)] = sequence
        real[row, : len(sequence)] = 1
    return tokens, real
