"""Attention behind one function: which keys a query sees is data, how it is computed is a choice.

Letters: b batch, q query position, k key position, p prefix position, h kv head, g query heads per
kv head, d head_dim, n = g x q.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as splash_mask
from jaxtyping import Array, Bool, Float, Int

from sentidistill_jax.models.contract import contract
from sentidistill_jax.sharding import backend, partition_spec_of

# Keys and values that one layer has of tokens read before: of each row's, and of a prefix that all
# rows share.
LayerCache = tuple[
    Float[Array, "batch kv_heads length head_dim"], Float[Array, "batch kv_heads length head_dim"]
]
# Keys and values of the tokens of this call, which the caller may append to the cache.
LayerUpdate = tuple[
    Float[Array, "batch kv_heads seq head_dim"], Float[Array, "batch kv_heads seq head_dim"]
]
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
_QUERY_BLOCK = 128  # whose scores stay in a CPU's cache; whole rows of scores would not


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Visibility:
    """What queries may see: keys at or before them, of their segment, and all of the prefix.

    A window narrows this to the nearest keys.
    """

    positions: Int[Array, "b q"]  # of queries in their texts, the prefix included
    cache_positions: Int[Array, "b k"] | None = None  # of the tokens in a cache
    segment_ids: Int[Array, "b q"] | None = None  # without a cache only

    def of_keys(self, window: int | None) -> Bool[Array, "b q q"]:
        """Whether a query sees the key of a token beside it."""
        places = self.positions
        if self.cache_positions is None:
            # By place in the row, since padding has no position.
            places = jnp.arange(self.positions.shape[1])[None]
        visible = _reaches(places, places, window)
        if self.segment_ids is not None:
            visible &= self.segment_ids[:, :, None] == self.segment_ids[:, None]
        return jnp.broadcast_to(visible, (len(self.positions), *visible.shape[1:]))

    def of_cache(self, window: int | None) -> Bool[Array, "b q k"]:
        """Whether a query sees a key of the cache."""
        assert self.cache_positions is not None
        return _reaches(self.positions, self.cache_positions, window)

    def of_prefix(self, length: int, window: int) -> Bool[Array, "b q p"]:
        """Whether a query sees a token of the prefix through a window."""
        return self.positions[:, :, None] - jnp.arange(length)[None, None] < window


def _reaches(queries: Int[Array, "b q"], keys: Int[Array, "b k"], window: int | None):
    distance = queries[:, :, None] - keys[:, None]
    return distance >= 0 if window is None else (distance >= 0) & (distance < window)


def attend(
    query: Float[Array, "b q h g d"],
    key: Float[Array, "b h q d"],
    value: Float[Array, "b h q d"],
    visibility: Visibility,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    cache: LayerCache | None = None,
    prefix: LayerPrefix | None = None,
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
      cache: Keys and values of tokens read before, at `visibility.cache_positions`.
      prefix: Further keys and values before all others, shared by all rows.
      implementation: One of `IMPLEMENTATIONS`. A cache or a prefix is always read by "xla": the
        kernels know neither. "auto" takes the kernel of the backend where its limits allow.

    Raises:
      ValueError: If the implementation is unknown, or cannot compute what is asked.
    """
    if visibility.cache_positions is not None or prefix is not None:
        implementation = "xla"
    elif implementation == "auto":
        implementation = _best(query, softcap)
    if implementation == "xla":
        return _xla(query, key, value, visibility, scale, window, softcap, cache, prefix)
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


def _xla(query, key, value, visibility, scale, window, softcap, cache=None, prefix=None):
    """The reference: one block of queries after the other, each with the keys up to its end.

    Cache and prefix are read in place: nothing is put together or copied per row.
    """
    parts = [(key, value, visibility.of_keys(window))]
    if cache is not None:
        parts.append((*cache, visibility.of_cache(window)))
    if prefix is not None:
        visible = None if window is None else visibility.of_prefix(prefix[0].shape[1], window)
        parts.append((*prefix, visible))
    query *= scale
    mixed = []
    for start in range(0, query.shape[1], _QUERY_BLOCK):
        block = slice(start, start + _QUERY_BLOCK)
        nearest = slice(0 if window is None else max(0, start - window + 1), block.stop)
        near = [(key[:, :, nearest], value[:, :, nearest], parts[0][2][:, :, nearest]), *parts[1:]]
        mixed.append(_mix(query[:, block], near, block, softcap))
    return jnp.concatenate(mixed, axis=1) if len(mixed) > 1 else mixed[0]


def _mix(query, parts, block: slice, softcap: float | None) -> jax.Array:
    """Attention of some queries to all parts: keys, values, and which of all queries see which.

    The query heads of a group become rows of one matrix (n = g x q), so that every product is a
    plain batched one; on a CPU that halves the time of the five-letter einsum.
    """
    b, q, h, g, d = query.shape
    query = query.transpose(0, 2, 3, 1, 4).reshape(b, h, g * q, d)

    def scored(keys: jax.Array, visible: jax.Array | None) -> jax.Array:
        letters = "bhkd"[-keys.ndim :]  # a prefix has no rows
        scores = contract(f"bhnd,{letters}->bhnk", query, keys)
        if softcap is not None:
            scores = softcap * jnp.tanh(scores / softcap)
        if visible is None:
            return scores
        tiled = jnp.tile(visible[:, block], (1, g, 1))[:, None]
        return jnp.where(tiled, scores, jnp.finfo(jnp.float32).min)

    scores = [scored(keys, visible) for keys, _, visible in parts]
    mixed = _softmax_mix(scores, [values for _, values, _ in parts])
    return mixed.reshape(b, h, g, q, d).transpose(0, 3, 1, 2, 4)


def _softmax_mix(scores: list[jax.Array], values: list[jax.Array]) -> jax.Array:
    """Values weighed by one softmax over the scores [b, h, n, k] of all parts.

    Divided at the end, where there is less to divide.
    """
    largest = functools.reduce(
        jnp.maximum, [jnp.max(part, axis=-1, keepdims=True) for part in scores]
    )
    largest = lax.stop_gradient(largest)  # it cancels
    mixed, total = jnp.float32(0), jnp.float32(0)
    for part, value in zip(scores, values, strict=True):
        weights = jnp.exp(part - largest)
        total += jnp.sum(weights, axis=-1, keepdims=True)
        letters = "bhkd"[-value.ndim :]
        mixed += contract(f"bhnk,{letters}->bhnd", weights.astype(value.dtype), value)
    return mixed / total


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
