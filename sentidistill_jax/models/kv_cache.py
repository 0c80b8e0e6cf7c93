"""Keys and values of the tokens read so far, for every layer."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sentidistill_jax.models.config import ModelConfig
from sentidistill_jax.sharding import constrain


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KVCache:
    """A slot per position; slot `p` of a row holds the token at position `p` of that row."""

    key: Float[Array, "layers batch length kv_heads head_dim"]
    value: Float[Array, "layers batch length kv_heads head_dim"]

    @property
    def length(self) -> int:
        """Slots per row."""
        return self.key.shape[2]

    @classmethod
    def zeros(
        cls, config: ModelConfig, batch: int, length: int, dtype: jnp.dtype = jnp.float32  # type: ignore[assignment]
    ) -> "KVCache":
        """An empty cache."""
        shape = (config.num_layers, batch, length, config.num_kv_heads, config.head_dim)
        axes = ("layers", "batch", "seq", "kv_heads", "head_dim")
        return cls(constrain(jnp.zeros(shape, dtype), axes), constrain(jnp.zeros(shape, dtype), axes))
