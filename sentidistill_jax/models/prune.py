"""A student from a larger model: some of its layers, and the rest unchanged."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.hf import abstract_decoder


def keep_layers(model: Decoder, layers: Sequence[int]) -> Decoder:
    """A decoder with only the given layers of `model`, in the given order.

    The embedding, the head and the final norm are not copied: both models hold the same arrays,
    so donating those of one deletes those of the other.

    Args:
      model: Stays as it is.
      layers: Indices into its layers; repeats are allowed.

    Raises:
      ValueError: If there are none, or one does not exist.
    """
    config = model.config.with_layers(layers)
    graphdef, _ = nnx.split(abstract_decoder(config, **model.options))
    index = jnp.asarray(list(layers))

    def kept(path: tuple[Any, ...], variable: nnx.Variable) -> nnx.Variable:
        if path[0] != "layers":
            return variable
        value = variable.get_value()
        return variable.replace(jax.device_put(jnp.take(value, index, axis=0), value.sharding))

    state = [(path, kept(path, v)) for path, v in nnx.to_flat_state(nnx.state(model))]
    return nnx.merge(graphdef, nnx.from_flat_state(state))
