"""The decoder: one readable Flax NNX model for training, scoring and generation.

The families differ by flags of their configuration, the layers of a model by scanned flags.

Einsum letters: b batch, q query position, k key position, e embed, h head, d head_dim, f mlp,
v vocab.
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

from sentidistill_jax.cpu_workarounds import bitcast_from_words
from sentidistill_jax.models.attention import IMPLEMENTATIONS, Visibility, attend
from sentidistill_jax.models.cached_attention import attend_cached
from sentidistill_jax.models.config import ModelConfig
from sentidistill_jax.models.kv_cache import EMPTY, KVCache, SharedPrefix
from sentidistill_jax.models.matmul import WEIGHT_PRODUCT, einsum
from sentidistill_jax.models.rope import Rotation
from sentidistill_jax.sharding import constrain

# What the backward pass keeps of a layer's forward pass instead of recomputing it.
REMAT_POLICIES: dict[str, Callable | None] = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.save_only_these_names(WEIGHT_PRODUCT),
}
_GATES: dict[str, Callable] = {
    "silu": jax.nn.silu,
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
}
_ACTIVATION = ("batch", "seq", "activation_embed")
# Queries, keys and values of a layer to the values that each query sees, mixed.
Mix = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
Rotate = Callable[[jax.Array], jax.Array]
KeysAndValues = tuple[
    Float[Array, "batch kv_heads seq head_dim"], Float[Array, "batch kv_heads seq head_dim"]
]
# Stacking layers puts "layers" before the logical axes that every parameter carries as `axes`.
_STACKED = {nnx.PARTITION_NAME: "layers", "axes": "layers"}


def _param(rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str, ...], fan_in: int) -> nnx.Param:
    init = jax.nn.initializers.truncated_normal(fan_in**-0.5)
    return nnx.Param(init(rngs.params(), shape, jnp.float32), axes=axes)


def _zeros(shape: tuple[int, ...], axes: tuple[str, ...]) -> nnx.Param:
    return nnx.Param(jnp.zeros(shape, jnp.float32), axes=axes)


class RMSNorm(nnx.Module):
    """Root-mean-square normalisation in float32 (arXiv:1910.07467)."""

    def __init__(self, dim: int, config: ModelConfig, *, axis: str = "activation_embed"):
        self.offset = config.family.norm_offset
        self.scale = nnx.Param(jnp.full((dim,), 1 - self.offset, jnp.float32), axes=(axis,))
        self.eps = config.rms_norm_eps

    def __call__(self, x: Float[Array, "... dim"]) -> Float[Array, "... dim"]:
        """Normalises the last dim; the result has the dtype of `x`."""
        x_32 = x.astype(jnp.float32)
        variance = jnp.mean(jnp.square(x_32), axis=-1, keepdims=True)
        normed = x_32 * lax.rsqrt(variance + self.eps)
        scale = self.offset + self.scale[...].astype(jnp.float32)
        return (normed * scale.reshape((1,) * (x.ndim - 1) + (-1,))).astype(x.dtype)


class Attention(nnx.Module):
    """Grouped-query attention; how values are mixed is the caller's business."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        embed, head_dim = config.embed_dim, config.head_dim
        heads, kv_heads = config.num_heads, config.num_kv_heads
        query, kv = ("heads", "head_dim"), ("kv_heads", "head_dim")
        self.q_proj = _param(rngs, (embed, heads, head_dim), ("embed", *query), embed)
        self.k_proj = _param(rngs, (embed, kv_heads, head_dim), ("embed", *kv), embed)
        self.v_proj = _param(rngs, (embed, kv_heads, head_dim), ("embed", *kv), embed)
        self.o_proj = _param(
            rngs, (heads, head_dim, embed), ("heads", "head_dim", "embed"), heads * head_dim
        )
        if config.family.qkv_bias:
            self.q_bias = _zeros((heads, head_dim), query)
            self.k_bias = _zeros((kv_heads, head_dim), kv)
            self.v_bias = _zeros((kv_heads, head_dim), kv)
        if config.family.qk_norm:
            self.q_norm = RMSNorm(head_dim, config, axis="head_dim")
            self.k_norm = RMSNorm(head_dim, config, axis="head_dim")
        self.config = config

    def __call__(
        self, x: Float[Array, "batch seq embed"], rotate: Rotate, mix: Mix
    ) -> tuple[Float[Array, "batch seq embed"], KeysAndValues]:
        """Mixes positions; also returns the keys and values of this call's tokens."""
        query, key, value = self._project(x)
        query, key, value = rotate(query), rotate(key).swapaxes(1, 2), value.swapaxes(1, 2)
        grouped = query.reshape(*query.shape[:2], key.shape[1], -1, query.shape[-1])
        mixed = mix(grouped, key, value).astype(x.dtype)
        output = einsum("bqhd,hde->bqe", mixed.reshape(query.shape), self.o_proj[...])
        return output.astype(x.dtype), (key, value)

    def _project(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, keys and values [batch, seq, heads, head_dim] before the rotation."""
        query = einsum("bqe,ehd->bqhd", x, self.q_proj[...])
        key = einsum("bke,ehd->bkhd", x, self.k_proj[...])
        value = einsum("bke,ehd->bkhd", x, self.v_proj[...])
        if self.config.family.qkv_bias:
            query += self.q_bias[...].astype(jnp.float32)[None, None]
            key += self.k_bias[...].astype(jnp.float32)[None, None]
            value += self.v_bias[...].astype(jnp.float32)[None, None]
        query, key, value = (array.astype(x.dtype) for array in (query, key, value))
        if self.config.family.qk_norm:
            query, key = self.q_norm(query), self.k_norm(key)
        return query, key, value


class MLP(nnx.Module):
    """Gated feed-forward layer: SwiGLU or GeGLU (arXiv:2002.05202)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        embed, mlp = config.embed_dim, config.mlp_dim
        self.gate_proj = _param(rngs, (embed, mlp), ("embed", "mlp"), embed)
        self.up_proj = _param(rngs, (embed, mlp), ("embed", "mlp"), embed)
        self.down_proj = _param(rngs, (mlp, embed), ("mlp", "embed"), mlp)
        self.activation = config.family.activation

    def __call__(self, x: Float[Array, "batch seq embed"]) -> Float[Array, "batch seq embed"]:
        """Applies the layer position by position."""
        return einsum("bqf,fe->bqe", self.hidden(x), self.down_proj[...]).astype(x.dtype)

    def hidden(self, x: Float[Array, "batch seq embed"]) -> Float[Array, "batch seq mlp"]:
        """What the down projection reads."""
        gate = einsum("bqe,ef->bqf", x, self.gate_proj[...])
        up = einsum("bqe,ef->bqf", x, self.up_proj[...])
        return (_GATES[self.activation](gate) * up).astype(x.dtype)


class Block(nnx.Module):
    """One pre-norm transformer layer."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.attention_norm = RMSNorm(config.embed_dim, config)
        self.attention = Attention(config, rngs)
        self.mlp_norm = RMSNorm(config.embed_dim, config)
        self.mlp = MLP(config, rngs)
        self.sandwich_norms = config.family.sandwich_norms
        if self.sandwich_norms:
            self.post_attention_norm = RMSNorm(config.embed_dim, config)
            self.post_mlp_norm = RMSNorm(config.embed_dim, config)

    def __call__(
        self, x: Float[Array, "batch seq embed"], rotate: Rotate, mix: Mix
    ) -> tuple[Float[Array, "batch seq embed"], KeysAndValues]:
        """Hidden states after the layer, and the keys and values of this call's tokens."""
        x, read = self.attend(x, rotate, mix)
        return self.feed_forward(x), read

    def feed_forward(self, x: Float[Array, "batch seq embed"]) -> Float[Array, "batch seq embed"]:
        """The layer's second half: hidden states after the MLP."""
        expanded = self.mlp(self.mlp_norm(x))
        if self.sandwich_norms:
            expanded = self.post_mlp_norm(expanded)
        return constrain(x + expanded, _ACTIVATION)

    def attend(
        self, x: Float[Array, "batch seq embed"], rotate: Rotate, mix: Mix
    ) -> tuple[Float[Array, "batch seq embed"], KeysAndValues]:
        """The layer's first half: hidden states before the MLP, and the keys and values read."""
        mixed, read = self.attention(self.attention_norm(x), rotate, mix)
        if self.sandwich_norms:
            mixed = self.post_attention_norm(mixed)
        return constrain(x + mixed, _ACTIVATION), read


class Decoder(nnx.Module):
    """Token ids in, hidden states out; `logits` turns those into scores of the next token.

    The head is kept apart from the body because hardly any caller needs it at every position:
    training scores completions only, label tasks score one position.

    Args:
      config: Its shape.
      rngs: Seeds the parameters, which are float32 whatever `dtype` is.
      dtype: Of activations and of the operands of products.
      remat: A key of `REMAT_POLICIES`.
      attention: One of `IMPLEMENTATIONS` of attention; see `attend`.

    Raises:
      ValueError: If there is no such policy or implementation.
    """

    def __init__(
        self,
        config: ModelConfig,
        rngs: nnx.Rngs,
        *,
        dtype: DTypeLike = jnp.float32,
        remat: str = "none",
        attention: str = "auto",
    ):
        if remat not in REMAT_POLICIES:
            raise ValueError(f"remat={remat!r} must be one of {sorted(REMAT_POLICIES)}.")
        if attention not in IMPLEMENTATIONS:
            raise ValueError(f"attention={attention!r} must be one of {list(IMPLEMENTATIONS)}.")
        self.config = config
        self.dtype = jnp.dtype(dtype)
        self.remat = remat
        self.attention = attention
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
        self.final_norm = RMSNorm(config.embed_dim, config)
        if not config.tie_embeddings:
            self.lm_head = nnx.Param(
                embed_init(rngs.params(), table_shape, jnp.float32),
                axes=("vocab", "embed"),
            )

    @property
    def options(self) -> dict[str, Any]:
        """The arguments beside the config that make another decoder compute as this one does."""
        return {"dtype": self.dtype, "remat": self.remat, "attention": self.attention}

    @property
    def head_weight(self) -> Float[Array, "vocab embed"]:
        """The matrix whose rows are compared with hidden states; the embedding when tied."""
        return (self.embedding if self.config.tie_embeddings else self.lm_head)[...]

    def logits(self, hidden: Float[Array, "... embed"]) -> Float[Array, "... vocab"]:
        """Next-token scores in float32, soft-capped where the model wants it."""
        rows = hidden.reshape(-1, hidden.shape[-1])
        scores = einsum("ne,ve->nv", rows, self.head_weight).reshape(*hidden.shape[:-1], -1)
        softcap = self.config.logit_softcap
        return scores if softcap is None else softcap * jnp.tanh(scores / softcap)

    def __call__(
        self,
        tokens: Int[Array, "batch seq"],
        positions: Int[Array, "batch seq"],
        *,
        segment_ids: Int[Array, "batch seq"] | None = None,
        cache: KVCache | None = None,
        prefix: SharedPrefix | None = None,
    ) -> tuple[Float[Array, "batch seq embed"], KVCache | None]:
        """Runs the body.

        Args:
          tokens: Token ids.
          positions: Position of each token in its text; restarts in every packed segment. Padding
            that goes into a cache stands at `kv_cache.EMPTY`.
          segment_ids: Packed examples see only their own segment (0 is padding). Not with a cache.
          cache: The tokens are appended to it; they see what stands at positions up to their own.
          prefix: Text beginnings that the rows have already read; only with a cache.

        Returns:
          Final normalised hidden states and the updated cache (None without one).
        """
        x, cache, _ = self._run(tokens, positions, segment_ids, cache, prefix)
        return self.final_norm(x), cache

    def embed(self, tokens: Int[Array, "batch seq"]) -> Float[Array, "batch seq embed"]:
        """Hidden states before the first layer."""
        # Whole rows of the table before the lookup; otherwise the compiler looks up parts of rows
        # for the whole batch on every device.
        table = constrain(self.embedding[...], ("vocab", "activation_embed"))
        x = constrain(jnp.take(table, tokens, axis=0).astype(self.dtype), _ACTIVATION)
        if self.config.family.scaled_embedding:
            x *= jnp.asarray(self.config.embed_dim**0.5, self.dtype)
        return x

    def block(self, layer: int | Int[Array, ""]) -> Block:
        """One of the layers, from 0."""
        graphdef, layers = nnx.split(self.layers)
        return nnx.merge(graphdef, jax.tree.map(lambda value: value[layer], layers))

    def attend_in_layer(
        self,
        layer: int | Int[Array, ""],
        x: Float[Array, "batch seq embed"],
        positions: Int[Array, "batch seq"],
        segment_ids: Int[Array, "batch seq"],
    ) -> Float[Array, "batch seq embed"]:
        """The first half of a layer: hidden states before it to those before its MLP."""
        slides = self._slides[layer]
        rotate = functools.partial(Rotation.at(positions, self.config).apply, slides=slides)
        mix = functools.partial(self._mix(positions, segment_ids), layer, slides)
        return self.block(layer).attend(x, rotate, mix)[0]

    @property
    def _slides(self) -> Bool[Array, " layers"]:
        return jnp.asarray(self.config.sliding_layers or (False,) * self.config.num_layers)

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
        rotation = Rotation.at(positions, self.config)
        graphdef, layers = nnx.split(self.layers)
        mix = self._mix(positions, segment_ids)
        if cache is not None:
            mix = self._mix_cached(positions, cache, prefix)

        def apply_layer(x, scanned):
            number, slides, layer = scanned
            block = nnx.merge(graphdef, bitcast_from_words(layer))
            rotate = functools.partial(rotation.apply, slides=slides)
            after, read = block(x, rotate, functools.partial(mix, number, slides))
            return after, (
                () if cache is None else read,
                None if measure is None else measure(x, after),
            )

        policy = REMAT_POLICIES[self.remat]
        if policy is not None:
            apply_layer = jax.checkpoint(apply_layer, policy=policy, prevent_cse=False)

        scanned = (jnp.arange(self.config.num_layers), self._slides, layers)
        x, (read, measured) = lax.scan(apply_layer, self.embed(tokens), scanned)
        return x, None if cache is None else cache.append(positions, *read), measured

    def _mix(self, positions, segment_ids) -> Callable[..., jax.Array]:
        """Attention of the tokens of a call to one another."""
        config, visibility = self.config, Visibility(positions, segment_ids)

        def mix(number, slides, query, key, value):
            del number

            def through(window: int | None) -> jax.Array:
                return attend(
                    query, key, value, visibility, scale=config.attention_scale, window=window,
                    softcap=config.attention_softcap, implementation=self.attention,
                )  # fmt: skip

            if not any(config.sliding_layers):
                return through(None)
            if all(config.sliding_layers):
                return through(config.sliding_window)
            # Kernels want the window before they run: two of them, one of which each layer calls.
            return lax.cond(slides, lambda: through(config.sliding_window), lambda: through(None))

        return mix

    def _mix_cached(self, positions, cache, prefix) -> Callable[..., jax.Array]:
        """Attention of the tokens of a call to one another and to what was read before."""
        config = self.config

        def mix(number, slides, query, key, value):
            window = None
            if config.sliding_window is not None and any(config.sliding_layers):
                window = jnp.where(slides, config.sliding_window, EMPTY)
            return attend_cached(
                query, key, value, positions, layer=number, cache=cache, prefix=prefix,
                scale=config.attention_scale, window=window, softcap=config.attention_softcap,
            )  # fmt: skip

        return mix
