"""Keys and values of the tokens read so far, for every layer."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from sentidistill_jax.models.config import ModelConfig
from sentidistill_jax.sharding import constrain


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KVCache:
    """A slot per position; slot `p` of a row holds the token at position `p` of that row."""

    key: Float[Array, "layers batch kv_heads length head_dim"]
    value: Float[Array, "layers batch kv_heads length head_dim"]

    @property
    def length(self) -> int:
        """Slots per row."""
        return self.key.shape[3]

    @classmethod
    def zeros(
        cls,
        config: ModelConfig,
        batch: int,
        length: int,
        dtype: DTypeLike = jnp.float32,
    ) -> "KVCache":
        """An empty cache."""
        shape = (config.num_layers, batch, config.num_kv_heads, length, config.head_dim)
        axes = ("layers", "batch", "kv_heads", "seq", "head_dim")
        return cls(
            constrain(jnp.zeros(shape, dtype), axes), constrain(jnp.zeros(shape, dtype), axes)
        )

    def write(
        self,
        layer: Int[Array, ""],
        slots: Int[Array, "batch seq"],
        key: Float[Array, "batch kv_heads seq head_dim"],
        value: Float[Array, "batch kv_heads seq head_dim"],
    ) -> "KVCache":
        """The cache with new keys and values of one layer at the given slots."""
        rows = jnp.arange(slots.shape[0])[:, None, None]
        heads = jnp.arange(self.key.shape[2])[None, :, None]
        at = (layer, rows, heads, slots[:, None])
        return KVCache(
            self.key.at[at].set(key.astype(self.key.dtype)),
            self.value.at[at].set(value.astype(self.value.dtype)),
        )
