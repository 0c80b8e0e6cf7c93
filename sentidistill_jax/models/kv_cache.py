"""Keys and values of the tokens read so far, for every layer."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from sentidistill_jax.models.config import ModelConfig
from sentidistill_jax.sharding import constrain

# Position of a slot that holds no token: after every real one, so that nothing looks at it.
EMPTY = 2**30


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KVCache:
    """Slots that all rows fill together; which of them a query sees is told by their positions.

    Rows of different lengths are padded with tokens at position `EMPTY`. An append is then one
    slice of the cache, and one for all layers: by a scatter, or inside a scan over the layers, a
    CPU would copy all of the cache for every layer.
    """

    key: Float[Array, "layers batch kv_heads length head_dim"]
    value: Float[Array, "layers batch kv_heads length head_dim"]
    positions: Int[Array, "batch length"]  # of the token in each slot in its text
    used: Int[Array, ""]  # slots filled so far
    blank: bool = dataclasses.field(default=False, metadata={"static": True})  # nothing to be read

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
            key=constrain(jnp.zeros(shape, dtype), axes),
            value=constrain(jnp.zeros(shape, dtype), axes),
            positions=constrain(jnp.full((batch, length), EMPTY, jnp.int32), ("batch", "seq")),
            used=jnp.zeros((), jnp.int32),
            blank=True,
        )

    def append(
        self,
        positions: Int[Array, "batch seq"],
        key: Float[Array, "layers batch kv_heads seq head_dim"],
        value: Float[Array, "layers batch kv_heads seq head_dim"],
    ) -> "KVCache":
        """The cache with the next tokens in its next slots."""
        at = (0, 0, 0, self.used, 0)
        return KVCache(
            key=lax.dynamic_update_slice(self.key, key.astype(self.key.dtype), at),
            value=lax.dynamic_update_slice(self.value, value.astype(self.value.dtype), at),
            positions=lax.dynamic_update_slice(self.positions, positions, (0, self.used)),
            used=self.used + positions.shape[1],
        )
