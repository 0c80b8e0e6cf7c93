"""Attention behind one function: which keys a query sees is data, how it is computed is a choice.

Letters: b batch, q query position, k key position, p prefix position, h kv head, g query heads per
kv head, d head_dim, n = g x q.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as splash_mask
from jaxtyping import Array, Bool, Float, Int

from sentidistill_jax.models.contract import contract
from sentidistill_jax.sharding import partition_spec_of

# Keys and values that one layer has of a prefix shared by all rows.
LayerPrefix = tuple[
    Float[Array, "kv_heads prefix head_dim"], Float[Array, "kv_heads prefix head_dim"]
]
IMPLEMENTATIONS = ("auto", "xla", "cudnn", "splash")
_SPLASH_BLOCKS = (512, 256, 128)  # the largest that divides a row is used
_BLOCK_FIELDS = (
    "block_q", "block_kv", "block_kv_compute", "block_q_dkv", "block_kv_dkv",
    "block_kv_dkv_compute", "block_q_dq", "block_kv_dq",
)  # fmt: skip
_CUDNN_LARGEST_HEAD = 128


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Visibility:
    """What queries may see: keys at or before them, of their segment, and all of the prefix.

    A window narrows this to the nearest keys.
    """

    positions: Int[Array, "b q"]  # of queries in their texts, the prefix included
    key_positions: Int[Array, "b k"] | None = None  # of a cache; None: queries are the keys
    segment_ids: Int[Array, "b q"] | None = None  # without a cache only

    def of_keys(self, window: int | None) -> Bool[Array, "b q k"]:
        """Whether a query sees a key."""
        if self.key_positions is None:
            # By place in the row, since padding has no position.
            places = jnp.arange(self.positions.shape[1])[None]
            distance = places[:, :, None] - places[:, None]
        else:
            distance = self.positions[:, :, None] - self.key_positions[:, None]
        visible = distance >= 0
        if window is not None:
            visible &= distance < window
        if self.segment_ids is not None:
            visible &= self.segment_ids[:, :, None] == self.segment_ids[:, None]
        return jnp.broadcast_to(visible, (len(self.positions), *visible.shape[1:]))

    def of_prefix(self, length: int, window: int) -> Bool[Array, "b q p"]:
        """Whether a query sees a token of the prefix through a window."""
        return self.positions[:, :, None] - jnp.arange(length)[None, None] < window


def attend(
    query: Float[Array, "b q h g d"],
    key: Float[Array, "b h k d"],
    value: Float[Array, "b h k d"],
    visibility: Visibility,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    prefix: LayerPrefix | None = None,
    implementation: str = "auto",
) -> Float[Array, "b q h g d"]:
    """Mixes the values that each query sees by the softmax of its scores.

    Args:
      query: Grouped by the kv head that each reads.
      key: Of the same tokens, or of a cache.
      value: Beside the keys.
      visibility: Which keys count.
      scale: Scores are query @ key times this.
      window: Keys further back than `window - 1` are not seen; None: no limit.
      softcap: Scores become softcap * tanh(scores / softcap).
      prefix: Further keys and values before all others, shared by all rows.
      implementation: One of `IMPLEMENTATIONS`. A cache or a prefix is always read by "xla": the
        kernels know neither. "auto" takes the kernel of the backend where its limits allow.

    Raises:
      ValueError: If the implementation is unknown, or cannot compute what is asked.
    """
    if visibility.key_positions is not None or prefix is not None:
        implementation = "xla"
    elif implementation == "auto":
        implementation = _best(query, softcap)
    if implementation == "xla":
        return _xla(query, key, value, visibility, scale, window, softcap, prefix)
    if implementation == "cudnn":
        if softcap is not None:
            raise ValueError(
                "attention='cudnn' has no soft-cap, which this model needs; use 'xla' or 'auto'."
            )
        return _dot_product(query, key, value, visibility, scale, window, "cudnn")
    if implementation == "splash":
        return _splash(query, key, value, visibility, scale, window, softcap)
    raise ValueError(f"attention={implementation!r} must be one of {list(IMPLEMENTATIONS)}.")


def _best(query: jax.Array, softcap: float | None) -> str:
    backend = jax.default_backend()
    if backend == "tpu" and query.shape[1] % _SPLASH_BLOCKS[-1] == 0:
        return "splash"
    head_dim = query.shape[-1]
    fits = head_dim <= _CUDNN_LARGEST_HEAD and head_dim % 8 == 0 and softcap is None
    if backend == "gpu" and fits and query.dtype in (jnp.bfloat16, jnp.float16):
        return "cudnn"
    return "xla"


def _xla(query, key, value, visibility, scale, window, softcap, prefix):
    """The reference. A prefix is read in place, never copied per row.

    The query heads of a group become rows of one matrix (n = g x q), so that every product is a
    plain batched one; on a CPU that halves the time of the five-letter einsum.
    """
    b, q, h, g, d = query.shape
    query = (query * scale).transpose(0, 2, 3, 1, 4).reshape(b, h, g * q, d)

    def masked(scores: jax.Array, visible: jax.Array) -> jax.Array:
        tiled = jnp.tile(visible, (1, g, 1))[:, None]
        return jnp.where(tiled, scores, jnp.finfo(jnp.float32).min)

    scores = _capped(contract("bhnd,bhkd->bhnk", query, key), softcap)
    scores = masked(scores, visibility.of_keys(window))
    if prefix is None:
        weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
        mixed = contract("bhnk,bhkd->bhnd", weights, value)
    else:
        prefix_key, prefix_value = prefix
        prefix_scores = _capped(contract("bhnd,hpd->bhnp", query, prefix_key), softcap)
        if window is not None:
            visible = visibility.of_prefix(prefix_key.shape[1], window)
            prefix_scores = masked(prefix_scores, visible)
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


def _capped(scores: jax.Array, softcap: float | None) -> jax.Array:
    return scores if softcap is None else softcap * jnp.tanh(scores / softcap)


def _dot_product(query, key, value, visibility, scale, window, implementation):
    """Flash attention of cuDNN; packed rows give it their mask, which is one matrix per row."""
    b, q, h, g, d = query.shape
    mask = None
    if visibility.segment_ids is not None:
        mask = visibility.of_keys(window)[:, None]
    mixed = jax.nn.dot_product_attention(
        query.reshape(b, q, h * g, d),
        key.swapaxes(1, 2),
        value.swapaxes(1, 2),
        mask=mask,
        scale=scale,
        is_causal=mask is None,
        local_window_size=(window - 1, 0) if window is not None and mask is None else None,
        implementation=implementation,
    )
    return mixed.reshape(b, q, h, g, d)


def _splash(query, key, value, visibility, scale, window, softcap, *, interpret=False):
    """The Pallas kernel for TPUs, which skips blocks that are not seen.

    Every device computes its own rows and heads: the kernel knows no partitioning.
    """
    _, q, _, g, _ = query.shape
    block = next((size for size in _SPLASH_BLOCKS if q % size == 0), None)
    if block is None:
        raise ValueError(
            f"attention='splash' needs rows of a multiple of {_SPLASH_BLOCKS[-1]} tokens, got {q};"
            " pad them, or use 'xla' or 'auto'."
        )
    seen = splash_mask.CausalMask((q, q))
    if window is not None:
        seen = splash_mask.LocalMask((q, q), window_size=(window - 1, 0), offset=0)

    def local(query, key, value, segment_ids):
        kernel = splash.make_splash_mqa_single_device(
            splash_mask.MultiHeadMask([seen] * g),
            block_sizes=splash.BlockSizes(**dict.fromkeys(_BLOCK_FIELDS, block)),
            attn_logits_soft_cap=softcap,
            interpret=interpret,
        )
        of_heads = jax.vmap(kernel, in_axes=(0, 0, 0, None))
        return jax.vmap(of_heads)(query, key, value, splash.SegmentIds(segment_ids, segment_ids))

    segment_ids = visibility.segment_ids
    if segment_ids is None:
        segment_ids = jnp.zeros_like(visibility.positions)
    query = (query * scale).transpose(0, 2, 3, 1, 4)
    if not jax.sharding.get_abstract_mesh().empty:
        heads = ("batch", "kv_heads")
        local = jax.shard_map(
            local,
            in_specs=(
                *(partition_spec_of(array, heads) for array in (query, key, value)),
                partition_spec_of(segment_ids, ("batch",)),
            ),
            out_specs=partition_spec_of(query, heads),
            check_vma=False,  # the kernel does not say how its results vary
        )
    mixed: Any = local(query, key, value, segment_ids)
    return mixed.transpose(0, 3, 1, 2, 4)
