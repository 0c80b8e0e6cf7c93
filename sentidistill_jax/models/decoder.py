"""The decoder: one readable Flax NNX model for training, scoring and generation.

Einsum letters: b batch, q query position, k key position, p prefix position, e embed,
h kv head, g query heads per kv head, d head_dim, f mlp, v vocab.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from sentidistill_jax.models.config import ModelConfig
from sentidistill_jax.models.contract import WEIGHT_PRODUCT, contract
from sentidistill_jax.models.kv_cache import KVCache
from sentidistill_jax.sharding import constrain

# What the backward pass keeps of a layer's forward pass instead of recomputing it.
REMAT_POLICIES: dict[str, Callable | None] = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.save_only_these_names(WEIGHT_PRODUCT),
}
_ACTIVATION = ("batch", "seq", "activation_embed")
# Keys and values that one layer has of a prefix shared by all rows.
LayerPrefix = tuple[
    Float[Array, "kv_heads prefix head_dim"], Float[Array, "kv_heads prefix head_dim"]
]
# Stacking layers puts "layers" before the logical axes that every parameter carries as `axes`.
_STACKED = {nnx.PARTITION_NAME: "layers", "axes": "layers"}


def _param(rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str, ...], fan_in: int) -> nnx.Param:
    init = jax.nn.initializers.truncated_normal(fan_in**-0.5)
    return nnx.Param(init(rngs.params(), shape, jnp.float32), axes=axes)


class RMSNorm(nnx.Module):
    """Root-mean-square normalisation in float32 (arXiv:1910.07467)."""

    def __init__(self, dim: int, eps: float):
        self.scale = nnx.Param(jnp.ones((dim,), jnp.float32), axes=("activation_embed",))
        self.eps = eps

    def __call__(self, x: Float[Array, "... embed"]) -> Float[Array, "... embed"]:
        """Normalises the last dim; the result has the dtype of `x`."""
        x_32 = x.astype(jnp.float32)
        variance = jnp.mean(jnp.square(x_32), axis=-1, keepdims=True)
        normed = x_32 * lax.rsqrt(variance + self.eps)
        return (normed * self.scale[...].reshape((1,) * (x.ndim - 1) + (-1,))).astype(x.dtype)


def rope(
    x: Float[Array, "batch seq heads head_dim"],
    positions: Int[Array, "batch seq"],
    theta: float,
) -> Float[Array, "batch seq heads head_dim"]:
    """Rotary position embedding with the halves convention (arXiv:2104.09864).

    Angles stay in float32: bfloat16 cannot represent positions above 256 exactly.
    """
    half = x.shape[-1] // 2
    frequencies = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions[:, :, None, None].astype(jnp.float32) * frequencies[None, None, None]
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)


def _attend(
    query: Float[Array, "b q h g d"],
    key: Float[Array, "b h k d"],
    value: Float[Array, "b h k d"],
    mask: Bool[Array, "b q k"],
    prefix: LayerPrefix | None,
) -> Float[Array, "b q h g d"]:
    """Masked attention; a prefix that all rows share is read in place, never copied per row.

    The query heads of a group become rows of one matrix (n = g x q), so that every product is a
    plain batched one; on a CPU that halves the time of the five-letter einsum.
    """
    b, q, h, g, d = query.shape
    query = (query * d**-0.5).transpose(0, 2, 3, 1, 4).reshape(b, h, g * q, d)
    scores = contract("bhnd,bhkd->bhnk", query, key)
    mask = jnp.tile(mask, (1, g, 1))[:, None]
    scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    if prefix is None:
        weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
        mixed = contract("bhnk,bhkd->bhnd", weights, value)
    else:
        prefix_key, prefix_value = prefix
        prefix_scores = contract("bhnd,hpd->bhnp", query, prefix_key)
        # One softmax over both parts, without concatenating them.
        largest = jnp.maximum(
            jnp.max(scores, axis=-1, keepdims=True), jnp.max(prefix_scores, axis=-1, keepdims=True)
        )
        weights, prefix_weights = jnp.exp(scores - largest), jnp.exp(prefix_scores - largest)
        total = jnp.sum(weights, -1, keepdims=True) + jnp.sum(prefix_weights, -1, keepdims=True)
        mixed = contract("bhnk,bhkd->bhnd", weights.astype(value.dtype), value)
        mixed += contract("bhnp,hpd->bhnd", prefix_weights.astype(value.dtype), prefix_value)
        mixed /= total
    return mixed.reshape(b, h, g, q, d).transpose(0, 3, 1, 2, 4)


def _causal_mask(
    shape: tuple[int, ...], segment_ids: Int[Array, "batch seq"] | None
) -> Bool[Array, "batch q_seq kv_seq"]:
    """A position sees itself and what is before it in its segment."""
    rows, length = shape
    mask = jnp.tril(jnp.ones((length, length), bool))[None]
    if segment_ids is None:
        return jnp.broadcast_to(mask, (rows, length, length))
    return mask & (segment_ids[:, :, None] == segment_ids[:, None, :])


class Attention(nnx.Module):
    """Grouped-query attention."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        embed, head_dim = config.embed_dim, config.head_dim
        heads, kv_heads = config.num_heads, config.num_kv_heads
        self.q_proj = _param(rngs, (embed, heads, head_dim), ("embed", "heads", "head_dim"), embed)
        self.k_proj = _param(
            rngs, (embed, kv_heads, head_dim), ("embed", "kv_heads", "head_dim"), embed
        )
        self.v_proj = _param(
            rngs, (embed, kv_heads, head_dim), ("embed", "kv_heads", "head_dim"), embed
        )
        self.o_proj = _param(
            rngs, (heads, head_dim, embed), ("heads", "head_dim", "embed"), heads * head_dim
        )
        self.rope_theta = config.rope_theta

    def __call__(
        self,
        x: Float[Array, "batch seq embed"],
        positions: Int[Array, "batch seq"],
        mask: Bool[Array, "batch seq kv_seq"],
        layer: Int[Array, ""],
        cache: KVCache | None,
        prefix: LayerPrefix | None,
    ) -> tuple[Float[Array, "batch seq embed"], KVCache | None]:
        """Mixes positions; the cache returned holds this call's keys and values as well."""
        dtype = x.dtype
        query = contract("bqe,ehd->bqhd", x, self.q_proj[...]).astype(dtype)
        key = contract("bke,ehd->bkhd", x, self.k_proj[...]).astype(dtype)
        value = contract("bke,ehd->bkhd", x, self.v_proj[...]).astype(dtype)
        query = rope(query, positions, self.rope_theta)
        key = rope(key, positions, self.rope_theta).swapaxes(1, 2)
        value = value.swapaxes(1, 2)
        if cache is not None:
            cache = cache.write(layer, key, value)
            key, value = cache.key[layer], cache.value[layer]
        grouped = query.reshape(*query.shape[:2], key.shape[1], -1, query.shape[-1])
        mixed = _attend(grouped, key, value, mask, prefix).astype(dtype)
        mixed = mixed.reshape(query.shape)
        return contract("bqhd,hde->bqe", mixed, self.o_proj[...]).astype(dtype), cache


class MLP(nnx.Module):
    """SwiGLU feed-forward layer (arXiv:2002.05202)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        embed, mlp = config.embed_dim, config.mlp_dim
        self.gate_proj = _param(rngs, (embed, mlp), ("embed", "mlp"), embed)
        self.up_proj = _param(rngs, (embed, mlp), ("embed", "mlp"), embed)
        self.down_proj = _param(rngs, (mlp, embed), ("mlp", "embed"), mlp)

    def __call__(self, x: Float[Array, "batch seq embed"]) -> Float[Array, "batch seq embed"]:
        """Applies the layer position by position."""
        gate = contract("bqe,ef->bqf", x, self.gate_proj[...])
        up = contract("bqe,ef->bqf", x, self.up_proj[...])
        hidden = (jax.nn.silu(gate) * up).astype(x.dtype)
        return contract("bqf,fe->bqe", hidden, self.down_proj[...]).astype(x.dtype)


class Block(nnx.Module):
    """One pre-norm transformer layer."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.attention_norm = RMSNorm(config.embed_dim, config.rms_norm_eps)
        self.attention = Attention(config, rngs)
        self.mlp_norm = RMSNorm(config.embed_dim, config.rms_norm_eps)
        self.mlp = MLP(config, rngs)

    def __call__(
        self,
        x: Float[Array, "batch seq embed"],
        positions: Int[Array, "batch seq"],
        mask: Bool[Array, "batch seq kv_seq"],
        layer: Int[Array, ""],
        cache: KVCache | None,
        prefix: LayerPrefix | None,
    ) -> tuple[Float[Array, "batch seq embed"], KVCache | None]:
        """Hidden states after the layer, and the cache with layer `layer` updated."""
        mixed, cache = self.attention(self.attention_norm(x), positions, mask, layer, cache, prefix)
        x = constrain(x + mixed, _ACTIVATION)
        return constrain(x + self.mlp(self.mlp_norm(x)), _ACTIVATION), cache


class Decoder(nnx.Module):
    """Token ids in, hidden states out; `logits` turns those into scores of the next token.

    The head is kept apart from the body because hardly any caller needs it at every position:
    training scores completions only, label tasks score one position.

    Args:
      config: Its shape.
      rngs: Seeds the parameters, which are float32 whatever `dtype` is.
      dtype: Of activations and of the operands of products.
      remat: A key of `REMAT_POLICIES`.

    Raises:
      ValueError: If there is no such policy.
    """

    def __init__(
        self,
        config: ModelConfig,
        rngs: nnx.Rngs,
        *,
        dtype: DTypeLike = jnp.float32,
        remat: str = "none",
    ):
        if remat not in REMAT_POLICIES:
            raise ValueError(f"remat={remat!r} must be one of {sorted(REMAT_POLICIES)}.")
        self.config = config
        self.dtype = jnp.dtype(dtype)
        self.remat = remat
        # Scale of the published Llama embeddings; a tied head wants small logits at the start.
        embed_init = jax.nn.initializers.normal(0.02)
        table_shape = (config.vocab_size, config.embed_dim)
        self.embedding = nnx.Param(
            embed_init(rngs.params(), table_shape, jnp.float32), axes=("vocab", "embed")
        )

        @nnx.split_rngs(splits=config.num_layers)
        @functools.partial(nnx.vmap, in_axes=0, out_axes=0, transform_metadata=_STACKED)
        def stacked(rngs: nnx.Rngs) -> Block:
            return Block(config, rngs)

        self.layers = stacked(rngs)
        self.final_norm = RMSNorm(config.embed_dim, config.rms_norm_eps)
        if not config.tie_embeddings:
            self.lm_head = nnx.Param(
                embed_init(rngs.params(), table_shape, jnp.float32),
                axes=("vocab", "embed"),
            )

    @property
    def head_weight(self) -> Float[Array, "vocab embed"]:
        """The matrix whose rows are compared with hidden states; the embedding when tied."""
        return (self.embedding if self.config.tie_embeddings else self.lm_head)[...]

    def logits(self, hidden: Float[Array, "... embed"]) -> Float[Array, "... vocab"]:
        """Raw next-token scores in float32."""
        rows = hidden.reshape(-1, hidden.shape[-1])
        return contract("ne,ve->nv", rows, self.head_weight).reshape(*hidden.shape[:-1], -1)

    def __call__(
        self,
        tokens: Int[Array, "batch seq"],
        positions: Int[Array, "batch seq"],
        *,
        segment_ids: Int[Array, "batch seq"] | None = None,
        cache: KVCache | None = None,
        prefix: KVCache | None = None,
    ) -> tuple[Float[Array, "batch seq embed"], KVCache | None]:
        """Runs the body.

        Args:
          tokens: Token ids.
          positions: Position of each token in its text; restarts in every packed segment. Padding
            that goes into a cache stands at `kv_cache.EMPTY`.
          segment_ids: Packed examples see only their own segment (0 is padding). Not with a cache.
          cache: The tokens are appended to it; they see what stands at positions up to their own.
          prefix: A cache of batch 1 that every row has already read: a shared prompt beginning.

        Returns:
          Final normalised hidden states and the updated cache (None without one).
        """
        x, cache, _ = self._run(tokens, positions, segment_ids, cache, prefix)
        return self.final_norm(x), cache

    def layer_statistics(
        self,
        tokens: Int[Array, "batch seq"],
        positions: Int[Array, "batch seq"],
        measure: Callable[[jax.Array, jax.Array], Any],
        *,
        segment_ids: Int[Array, "batch seq"] | None = None,
    ) -> Any:
        """What `measure` finds in the hidden states before and after each layer.

        Args:
          tokens: Token ids.
          positions: Position of each token in its text.
          measure: Maps two arrays [batch, seq, embed] to a tree of arrays.
          segment_ids: As in a call.

        Returns:
          The trees of all layers, stacked along a leading layers dim.
        """
        return self._run(tokens, positions, segment_ids, None, None, measure)[2]

    def _run(self, tokens, positions, segment_ids, cache, prefix, measure=None):
        """Hidden states before the final norm, the cache, and what was measured in the layers."""
        if cache is None:
            mask = _causal_mask(tokens.shape, segment_ids)
        else:
            cache = cache.claim(positions)
            mask = cache.positions[:, None] <= positions[:, :, None]
        graphdef, layers = nnx.split(self.layers)

        # The cache is carried, not scanned over: scanning would copy all of it in every call.
        def apply_layer(carry, scanned):
            x, cache = carry
            index, layer, layer_prefix = scanned
            block = nnx.merge(graphdef, layer)
            after, cache = block(x, positions, mask, index, cache, layer_prefix)
            return (after, cache), None if measure is None else measure(x, after)

        policy = REMAT_POLICIES[self.remat]
        if policy is not None:
            apply_layer = jax.checkpoint(apply_layer, policy=policy, prevent_cse=False)

        # Whole rows of the table before the lookup; otherwise the compiler looks up parts of rows
        # for the whole batch on every device.
        table = constrain(self.embedding[...], ("vocab", "activation_embed"))
        x = constrain(jnp.take(table, tokens, axis=0).astype(self.dtype), _ACTIVATION)
        scanned_prefix = None if prefix is None else (prefix.key[:, 0], prefix.value[:, 0])
        scanned = (jnp.arange(self.config.num_layers), layers, scanned_prefix)
        (x, cache), measured = lax.scan(apply_layer, (x, cache), scanned)
        return x, cache, measured
