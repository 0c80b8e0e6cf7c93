"""Rotary position embedding with the halves convention (arXiv:2104.09864)."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sentidistill_jax.models.config import ModelConfig, RopeScaling


def frequencies(
    head_dim: int, theta: float, scaling: RopeScaling | None
) -> Float[np.ndarray, " half"]:
    """Radians per position of every pair of dims.

    Raises:
      ValueError: If the scaling is of an unknown kind.
    """
    plain = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    if scaling is None:
        return plain.astype(np.float32)
    if scaling.kind == "linear":
        return (plain / scaling.factor).astype(np.float32)
    if scaling.kind == "llama3":
        # 0: the wavelength is too long to have been seen whole in pre-training; 1: seen often.
        turns = scaling.original_max_position * plain / (2 * math.pi)
        seen = (turns - scaling.low_freq_factor) / (
            scaling.high_freq_factor - scaling.low_freq_factor
        )
        seen = np.clip(seen, 0, 1)
        return ((1 - seen) * plain / scaling.factor + seen * plain).astype(np.float32)
    raise ValueError(f"rope scaling kind={scaling.kind!r} must be 'linear' or 'llama3'.")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rotation:
    """Sines and cosines of one forward pass, for each kind of layer (global first, then local).

    They are float32: bfloat16 cannot represent angles of positions above 256.
    """

    sin: Float[Array, "kinds batch seq half"]
    cos: Float[Array, "kinds batch seq half"]

    @classmethod
    def at(cls, positions: Int[Array, "batch seq"], config: ModelConfig) -> "Rotation":
        """Of tokens at the given positions of their texts."""
        kinds = [frequencies(config.head_dim, config.rope_theta, config.rope_scaling)]
        if config.local_rope_theta is not None:
            kinds.append(frequencies(config.head_dim, config.local_rope_theta, None))
        angles = positions[None, :, :, None].astype(jnp.float32) * np.stack(kinds)[:, None, None]
        return cls(jnp.sin(angles), jnp.cos(angles))

    def apply(
        self, x: Float[Array, "batch seq heads head_dim"], slides: Array
    ) -> Float[Array, "batch seq heads head_dim"]:
        """Rotates the heads of a layer, which slides or does not."""
        kind = slides.astype(jnp.int32) if len(self.sin) > 1 else 0
        sin, cos = self.sin[kind][:, :, None], self.cos[kind][:, :, None]
        first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
        rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
        return rotated.astype(x.dtype)
