"""Keys and values of the tokens read so far, for every layer."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from sentidistill_jax.cpu_workarounds import bitcast_to_words
from sentidistill_jax.models.config import ModelConfig
from sentidistill_jax.sharding import constrain

# Position of a slot that holds no token: after every real one, so that nothing looks at it.
EMPTY = 2**30
CACHE_AXES = ("layers", "batch", "kv_heads", "seq", "head_dim")


def stored_as(array: Array, dtype: DTypeLike) -> Array:
    """An array in the dtype of a cache, which may hold bfloat16 as words."""
    return (
        bitcast_to_words(array.astype(jnp.bfloat16)) if dtype == jnp.uint16 else array.astype(dtype)
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KVCache:
    """A ring of slots that all rows fill together; what a query sees is told by positions.

    Rows of different lengths are padded with tokens at position `EMPTY`. An append is then one
    slice of the cache, and one for all layers: by a scatter, or inside a scan over the layers, a
    CPU would copy all of the cache for every layer. After the last slot comes the first again, so
    a row may start at any time as long as its text is no longer than the ring.
    """

    key: Float[Array, "layers batch kv_heads length head_dim"]
    value: Float[Array, "layers batch kv_heads length head_dim"]
    positions: Int[Array, "batch length"]  # of the token in each slot in its text
    used: Int[Array, ""]  # slots filled so far, which goes on counting past the length
    reach: Int[Array, ""]  # how many of the latest slots may hold what somebody sees

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
        return cls(
            key=constrain(jnp.zeros(shape, dtype), CACHE_AXES),
            value=constrain(jnp.zeros(shape, dtype), CACHE_AXES),
            positions=constrain(jnp.full((batch, length), EMPTY, jnp.int32), ("batch", "seq")),
            used=jnp.zeros((), jnp.int32),
            reach=jnp.zeros((), jnp.int32),
        )

    def append(
        self,
        positions: Int[Array, "batch seq"],
        key: Float[Array, "layers batch kv_heads seq head_dim"],
        value: Float[Array, "layers batch kv_heads seq head_dim"],
    ) -> "KVCache":
        """The cache with the next tokens in its next slots; they must not go past the last one."""
        tokens = positions.shape[1]
        slot = self.used % self.length
        at = (0, 0, 0, slot, 0)
        return KVCache(
            key=lax.dynamic_update_slice(self.key, stored_as(key, self.key.dtype), at),
            value=lax.dynamic_update_slice(self.value, stored_as(value, self.value.dtype), at),
            positions=lax.dynamic_update_slice(self.positions, positions, (0, slot)),
            used=self.used + tokens,
            reach=jnp.minimum(self.reach + tokens, self.length),
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SharedPrefix:
    """Beginnings of texts that have been read once and stand before the rows of a batch.

    The rows are divided evenly: of P beginnings the first stands before the first P-th of them, and
    so on.
    """

    key: Float[Array, "layers prefixes kv_heads length head_dim"]
    value: Float[Array, "layers prefixes kv_heads length head_dim"]
    positions: Int[Array, "prefixes length"]  # `EMPTY` for a slot that holds no token
    used: Int[Array, ""]  # slots after so many hold none of any

    @property
    def lengths(self) -> Int[Array, " prefixes"]:
        """Tokens of each."""
        return jnp.sum(self.positions != EMPTY, axis=1, dtype=jnp.int32)
