"""Pruned decoders: fewer layers, or fewer channels, heads and tokens along logical axes."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from sentidistill_jax.models.config import ModelConfig
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.hf import abstract_decoder
from sentidistill_jax.sharding import state_shardings

# Axis whose width can be pruned -> the field of the config that says how long it is.
PRUNABLE_AXES: Mapping[str, str] = {
    "vocab": "vocab_size",
    "embed": "embed_dim",
    "mlp": "mlp_dim",
    "kv_heads": "num_kv_heads",
}


def prune_depth(model: Decoder, layers: Sequence[int]) -> Decoder:
    """A decoder with only the given layers of `model`, in the given order.

    The embedding, the head and the final norm are not copied: both models hold the same arrays,
    so donating those of one deletes those of the other.

    Args:
      model: Stays as it is.
      layers: Indices into its layers; repeats are allowed.

    Raises:
      ValueError: If there are none, or one does not exist.
    """
    smaller = abstract_decoder(model.config.with_layers(layers), **model.options)
    index = jnp.asarray(list(layers))

    def pruned(path: tuple[Any, ...], variable: nnx.Variable) -> nnx.Variable:
        if path[0] != "layers":
            return variable
        value = variable.get_value()
        return variable.replace(jax.device_put(jnp.take(value, index, axis=0), value.sharding))

    return _filled(smaller, model, pruned)


def width_pruned_config(config: ModelConfig, sizes: Mapping[str, int]) -> ModelConfig:
    """The shape of a decoder after width pruning.

    The epsilon of norms, which divide by a mean over channels, grows by old / new width. That of
    norms of heads is the same number, so it grows too; it only counts where a head is nearly zero.

    Args:
      config: Before.
      sizes: Axis of `PRUNABLE_AXES` -> its length after.

    Raises:
      ValueError: If an axis is unknown or not as long, or the family cannot do with fewer channels.
    """
    for axis, size in sizes.items():
        if axis not in PRUNABLE_AXES:
            raise ValueError(f"axis {axis!r} cannot be cut; expected one of {list(PRUNABLE_AXES)}.")
        full = getattr(config, PRUNABLE_AXES[axis])
        if not 1 <= size <= full:
            raise ValueError(f"{axis}={size} must be 1 to {full}, its length before the cut.")
    changes: dict[str, Any] = {PRUNABLE_AXES[axis]: size for axis, size in sizes.items()}
    if sizes.get("embed", config.embed_dim) != config.embed_dim:
        family = config.family
        if family.scaled_embedding or family.sandwich_norms:
            raise ValueError(
                f"student.slice.embed={sizes['embed']} cannot be done: hidden states of"
                f" {family.model_type} are scaled by their width and normalised once more where"
                " layers end, so fewer channels would compute something else; set it to 0 and cut"
                " mlp, kv_heads or layers."
            )
        changes["rms_norm_eps"] = config.rms_norm_eps * config.embed_dim / sizes["embed"]
    if "kv_heads" in sizes:
        changes["num_heads"] = sizes["kv_heads"] * (config.num_heads // config.num_kv_heads)
    return dataclasses.replace(config, **changes)


def prune_width(
    model: Decoder,
    kept: Mapping[str, np.ndarray],
    mesh: Mesh,
    *,
    norm_gains: np.ndarray | None = None,
) -> Decoder:
    """A decoder with only the given indices of some axes, in the given order.

    Every parameter is cut along the logical axes that it names, so whatever has such an axis
    follows. Query heads go with their key-value head; a head is never cut, which leaves rotary
    pairs whole. Parameters without a cut axis are shared with `model`.

    Norms divide by a mean over channels. `norm_gains` makes up for the channels that are gone:
    where those were zero and the gains are sqrt(old / new width), the norms give what they gave.

    Args:
      model: Stays as it is.
      kept: Axis of `PRUNABLE_AXES` -> indices [n], or [layers, n] where layers differ (mlp,
        kv_heads).
      mesh: Where the parameters go.
      norm_gains: Factors of the norms of every layer and of the final one, [layers + 1]; only
        with `embed`.

    Raises:
      ValueError: If an axis is unknown or cannot be cut, or an index is not one of it.
    """
    config = model.config
    sizes = {axis: indices.shape[-1] for axis, indices in kept.items()}
    smaller = abstract_decoder(width_pruned_config(config, sizes), **model.options)
    for axis, indices in kept.items():
        size = getattr(config, PRUNABLE_AXES[axis])
        if indices.min() < 0 or indices.max() >= size:
            raise ValueError(f"indices of {axis} must be some of 0 to {size - 1}.")
    along = dict(kept)
    if "embed" in kept:
        along["activation_embed"] = kept["embed"]
    if "kv_heads" in kept:
        group = config.num_heads // config.num_kv_heads
        heads = kept["kv_heads"][..., None] * group + np.arange(group)
        along["heads"] = heads.reshape(*heads.shape[:-2], -1)
    placements = dict(nnx.to_flat_state(state_shardings(nnx.state(smaller), mesh)))

    def pruned(path: tuple[Any, ...], variable: nnx.Variable) -> nnx.Variable:
        axes = variable.get_metadata()["axes"]
        value = variable.get_value()
        for number, axis in enumerate(axes):
            if axis in along:
                value = _take(value, jnp.asarray(along[axis]), number)
        if norm_gains is not None and "activation_embed" in axes:
            stacked = axes[0] == "layers"
            value *= jnp.asarray(norm_gains[:-1, None] if stacked else norm_gains[-1], value.dtype)
        if value is variable.get_value():
            return variable
        return variable.replace(jax.device_put(value, placements[path].get_value()))

    return _filled(smaller, model, pruned)


def _filled(
    abstract: Decoder,
    model: Decoder,
    pruned: Callable[[tuple[Any, ...], nnx.Variable], nnx.Variable],
) -> Decoder:
    """An abstract decoder with what `pruned` makes of each parameter of `model`."""
    state = [(path, pruned(path, v)) for path, v in nnx.to_flat_state(nnx.state(model))]
    return nnx.merge(nnx.graphdef(abstract), nnx.from_flat_state(state))


def _take(value: jax.Array, indices: jax.Array, axis: int) -> jax.Array:
    if indices.ndim == 1:
        return jnp.take(value, indices, axis=axis)
    return jax.vmap(lambda layer, index: jnp.take(layer, index, axis=axis - 1))(value, indices)
