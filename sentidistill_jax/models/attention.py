"""Attention behind one function: which keys a query sees is data, how it is computed is a choice.

Letters: b batch, q query position, k key position, h kv head, g query heads per kv head,
d head_dim, n = g x q. What has been read into a cache is the business of `cached_attention`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as splash_mask
from jaxtyping import Array, Bool, Float, Int

from sentidistill_jax.models.matmul import einsum
from sentidistill_jax.sharding import backend, partition_spec_of

IMPLEMENTATIONS = ("auto", "xla", "cudnn", "splash")
_SPLASH_BLOCKS = (512, 256, 128)  # the largest that divides a row is used
_BLOCK_FIELDS = (
    "block_q", "block_kv", "block_kv_compute", "block_q_dkv", "block_kv_dkv",
    "block_kv_dkv_compute", "block_q_dq", "block_kv_dq",
)  # fmt: skip
_CUDNN_LARGEST_HEAD = 128
_QUERY_BLOCK = 128  # whose scores stay in a CPU's cache; whole rows of scores would not


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Visibility:
    """What queries may see: keys at or before them in the row, of their segment.

    A window narrows this to the nearest keys.
    """

    positions: Int[Array, "b q"]  # in their texts
    segment_ids: Int[Array, "b q"] | None = None

    def of_keys(self, window: int | None) -> Bool[Array, "b q q"]:
        """Whether a query sees a key, by place in the row, since padding has no position."""
        places = jnp.arange(self.positions.shape[1])[None]
        distance = places[:, :, None] - places[:, None]
        visible = distance >= 0 if window is None else (distance >= 0) & (distance < window)
        if self.segment_ids is not None:
            visible &= self.segment_ids[:, :, None] == self.segment_ids[:, None]
        return jnp.broadcast_to(visible, (len(self.positions), *visible.shape[1:]))


def attend(
    query: Float[Array, "b q h g d"],
    key: Float[Array, "b h q d"],
    value: Float[Array, "b h q d"],
    visibility: Visibility,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    implementation: str = "auto",
) -> Float[Array, "b q h g d"]:
    """Mixes the values that each query sees by the softmax of its scores.

    Args:
      query: Grouped by the kv head that each reads.
      key: Of the same tokens.
      value: Beside the keys.
      visibility: Which keys count.
      scale: Scores are query @ key times this.
      window: Keys further back than `window - 1` are not seen; None: no limit.
      softcap: Scores become softcap * tanh(scores / softcap).
      implementation: One of `IMPLEMENTATIONS`. "auto" takes the kernel of the backend where its
        limits allow.

    Raises:
      ValueError: If the implementation is unknown, or cannot compute what is asked.
    """
    if implementation == "auto":
        implementation = _best(query, softcap)
    if implementation == "xla":
        return _xla(query, key, value, visibility, scale, window, softcap)
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
    platform = backend()
    if platform == "tpu" and query.shape[1] % _SPLASH_BLOCKS[-1] == 0:
        return "splash"
    head_dim = query.shape[-1]
    fits = head_dim <= _CUDNN_LARGEST_HEAD and head_dim % 8 == 0 and softcap is None
    if platform == "gpu" and fits and query.dtype in (jnp.bfloat16, jnp.float16):
        return "cudnn"
    return "xla"


def _xla(query, key, value, visibility, scale, window, softcap):
    """The reference: one block of queries after the other, each with the keys up to its end."""
    query *= scale
    visible = visibility.of_keys(window)
    mixed = []
    for start in range(0, query.shape[1], _QUERY_BLOCK):
        block = slice(start, start + _QUERY_BLOCK)
        near = slice(0 if window is None else max(0, start - window + 1), block.stop)
        mixed.append(
            _mix(query[:, block], key[:, :, near], value[:, :, near], visible[:, block, near],
                 softcap)
        )  # fmt: skip
    return jnp.concatenate(mixed, axis=1) if len(mixed) > 1 else mixed[0]


def _mix(query, key, value, visible, softcap: float | None) -> jax.Array:
    """Attention of some queries to some keys, of which they see those that are visible [b, q, k].

    The query heads of a group become rows of one matrix (n = g x q), so that every product is a
    plain batched one; on a CPU that halves the time of the five-letter einsum. Divided by the sum
    of weights at the end, where there is less to divide.
    """
    b, q, h, g, d = query.shape
    query = query.transpose(0, 2, 3, 1, 4).reshape(b, h, g * q, d)
    scores = einsum("bhnd,bhkd->bhnk", query, key)
    if softcap is not None:
        scores = softcap * jnp.tanh(scores / softcap)
    scores = jnp.where(jnp.tile(visible, (1, g, 1))[:, None], scores, jnp.finfo(jnp.float32).min)
    largest = lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))  # it cancels
    weights = jnp.exp(scores - largest)
    mixed = einsum("bhnk,bhkd->bhnd", weights.astype(value.dtype), value)
    mixed /= jnp.sum(weights, axis=-1, keepdims=True)
    return mixed.reshape(b, h, g, q, d).transpose(0, 3, 1, 2, 4)


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
