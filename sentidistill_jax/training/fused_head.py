"""Head and distillation loss in one: no array of all logits, in either pass.

Rows go through the head in chunks. Each chunk's gradients are computed while its logits are at
hand, in the forward pass: three matrix products a chunk, where a rematerialized chunk takes four,
and the head's gradient sums up in float32. The backward pass only scales what is there.

Over a mesh, rows are sharded over `data` and `fsdp`, the vocabulary over `tensor`.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sentidistill_jax.sharding import data_parallel_degree, mesh_axes_of, partition_spec
from sentidistill_jax.training import losses
from sentidistill_jax.training.distill_loss import (
    DistillTargets,
    LossTerms,
    check_terms,
    loss_from_logits,
    project,
    static_temperature,
)

_ROW_AXES = mesh_axes_of("batch")
_VOCAB_AXIS = mesh_axes_of("vocab")


def fused_distill_loss(
    hidden: Float[Array, "rows embed"],
    head_weight: Float[Array, "vocab embed"],
    targets: DistillTargets,
    weights: LossTerms,
    *,
    divergence: losses.Divergence = losses.forward_kl,
    temperature: float | Float[Array, ""] = 1.0,
    logit_softcap: float | None = None,
    chunk_rows: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[Float[Array, ""], LossTerms]:
    """The same as `distill_loss.distill_loss`, without its `[rows, vocab]` arrays.

    Gradients flow to `hidden` and `head_weight` only; that of the head is summed in float32, so
    pass the float32 parameter itself to keep it so.

    Args:
      hidden: Final hidden states of the scored positions; their dtype is that of the products.
      head_weight: In the layout of a tied embedding.
      targets: What each row should predict.
      weights: Factor of each term at each row; a row of weight 0 contributes nothing. The squared
        temperature and the token count are the caller's to put in.
      divergence: One of `losses.DIVERGENCES`.
      temperature: Divides the logits in the divergence alone. A Python 1 saves a pass.
      logit_softcap: Logits become softcap * tanh(logits / softcap).
      chunk_rows: Rows per chunk on a device; by default `default_chunk_rows`. As many as there are
        rows, or more, means no chunking: the plain form.
      mesh: With the axes `data`, `fsdp` and `tensor`; None for one device.

    Returns:
      The sum, and the unweighted terms for metrics, which carry no gradient. A term without
      targets is None.

    Raises:
      ValueError: If weights and targets do not name the same terms, or the mesh does not divide
        rows and vocabulary.
    """
    check_terms(targets, weights)
    rows, embed = hidden.shape
    if mesh is not None:
        _check_divisible("rows", rows, data_parallel_degree(mesh), "data x fsdp")
        _check_divisible("vocab", len(head_weight), mesh.shape["tensor"], "tensor")
        rows //= data_parallel_degree(mesh)
    options = _Options(
        divergence=divergence,
        logit_softcap=logit_softcap,
        chunk_rows=chunk_rows or default_chunk_rows(rows, embed),
        mesh=mesh,
    )
    return _fused(options, hidden, head_weight, targets, weights, static_temperature(temperature))


def default_chunk_rows(rows: int, embed: int) -> int:
    """Rows per chunk that save memory without costing time.

    A sixteenth of the rows, so that the logits take a sixteenth of their memory, but at least 256:
    each chunk reads and writes the head's gradient once, which needs that many rows to pay for.
    Fewer than `embed` rows go at once: their logits are smaller than the head's gradient.
    """
    return rows if rows < embed else max(256, -(-rows // 16))


@dataclasses.dataclass(frozen=True)
class _Options:
    divergence: losses.Divergence
    logit_softcap: float | None
    chunk_rows: int
    mesh: jax.sharding.Mesh | None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _fused(options, hidden, head_weight, targets, weights, temperature):
    # The compiler drops the gradients, which nothing reads here.
    return _loss_and_gradients(options, hidden, head_weight, targets, weights, temperature)[:2]


def _fused_forward(options, hidden, head_weight, targets, weights, temperature):
    loss, terms, hidden_gradient, head_gradient = _loss_and_gradients(
        options, hidden, head_weight, targets, weights, temperature
    )
    gradients = hidden_gradient.astype(hidden.dtype), head_gradient.astype(head_weight.dtype)
    return (loss, terms), gradients


def _fused_backward(options, gradients, cotangent):
    del options
    scaled = [(cotangent[0] * gradient).astype(gradient.dtype) for gradient in gradients]
    return *scaled, None, None, None


_fused.defvjp(_fused_forward, _fused_backward)


def _loss_and_gradients(options, hidden, head_weight, targets, weights, temperature):
    """Loss, terms and the loss's float32 gradients in hidden and head_weight."""
    local = functools.partial(_local_loss_and_gradients, options)
    # Cast here, before the mesh brings the parts of the weight together: less to move.
    args = hidden, head_weight.astype(hidden.dtype), targets, weights, temperature
    if options.mesh is None:
        return local(*args)
    by_row, by_vocab, replicated = map(partition_spec, (["batch"], ["vocab"], []))
    return jax.shard_map(
        local,
        mesh=options.mesh,
        in_specs=(by_row, by_vocab, by_row, by_row, replicated),
        out_specs=(replicated, by_row, by_row, by_vocab),
        check_vma=False,  # nothing is differentiated through it, so the types would buy nothing
    )(*args)


def _local_loss_and_gradients(options, hidden, head_weight, targets, weights, temperature):
    vocab_axis = None if options.mesh is None else _VOCAB_AXIS

    def add_chunk(head_gradient, chunk):
        hidden, targets, weights = chunk
        loss, pullback, terms = jax.vjp(
            lambda logits: loss_from_logits(
                logits,
                targets,
                weights,
                temperature,
                divergence=options.divergence,
                logit_softcap=options.logit_softcap,
                vocab_axis=vocab_axis,
            ),
            project(hidden, head_weight),
            has_aux=True,
        )
        logits_gradient = pullback(jnp.ones_like(loss))[0].astype(hidden.dtype)
        hidden_gradient = jnp.einsum(
            "rv,ve->re", logits_gradient, head_weight, preferred_element_type=jnp.float32
        )
        head_gradient += jnp.einsum(
            "rv,re->ve", logits_gradient, hidden, preferred_element_type=jnp.float32
        )
        return head_gradient, (loss, terms, hidden_gradient)

    head_gradient, (chunk_losses, *by_row) = jax.lax.scan(
        add_chunk,
        jnp.zeros(head_weight.shape, jnp.float32),
        split_rows((hidden, targets, weights), options.chunk_rows),
    )
    terms, hidden_gradient = join_rows(by_row, len(hidden))
    loss = jnp.sum(chunk_losses)
    if options.mesh is not None:
        loss = jax.lax.psum(loss, _ROW_AXES)
        hidden_gradient = jax.lax.psum(hidden_gradient, _VOCAB_AXIS)
        head_gradient = jax.lax.psum(head_gradient, _ROW_AXES)
    return loss, terms, hidden_gradient, head_gradient


def split_rows(tree, chunk_rows: int):
    """Every array [rows, ...] as [chunks, rows per chunk, ...], with zeros in the last chunk.

    Chunks are made even, so that none has more than `chunk_rows` rows and each holds less than one
    row of padding on average.
    """
    rows = len(jax.tree.leaves(tree)[0])
    chunks = -(-rows // chunk_rows)
    even_rows = -(-rows // chunks)

    def split(array):
        padding = [(0, chunks * even_rows - rows)] + [(0, 0)] * (array.ndim - 1)
        return jnp.pad(array, padding).reshape(chunks, even_rows, *array.shape[1:])

    return jax.tree.map(split, tree)


def join_rows(tree, rows: int):
    """The inverse of `split_rows`: the padding after `rows` goes."""
    return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:])[:rows], tree)


def _check_divisible(name, size, shards, axes):
    if size % shards:
        raise ValueError(
            f"{name}={size} must be a multiple of {shards} (mesh axes {axes}); pad to "
            f"{-(-size // shards) * shards}."
        )
