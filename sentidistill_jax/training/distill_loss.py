"""The weighted distillation loss of some scored rows, from their logits.

The plain form here holds all logits at once; `fused_head.py` computes the same without them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sentidistill_jax.training import losses
from sentidistill_jax.training.logit_summary import summarize_logits
from sentidistill_jax.training.row_chunks import join_rows, split_rows
from sentidistill_jax.training.sparse_teacher import (
    SparseTeacher,
    sparse_divergence,
    student_outcome_logits,
)


class LabelTargets(NamedTuple):
    """The teacher's choice among the label words."""

    label_ids: Int[Array, "rows labels"]  # first token of each label word; -1 marks padding
    label_logprobs: Float[Array, "rows labels"]  # normalised over the labels


class DistillTargets(NamedTuple):
    """What each scored row should predict."""

    tokens: Int[Array, "rows"]
    teacher: SparseTeacher | None = None  # at the temperature of the loss; without: no divergence
    labels: LabelTargets | None = None  # without: no label KL


class LossTerms(NamedTuple):
    """The parts of the loss, per row: either their values or their weights in the sum."""

    ce: Float[Array, "rows"]
    divergence: Float[Array, "rows"] | None = None
    label_kl: Float[Array, "rows"] | None = None


def distill_loss(
    hidden: Float[Array, "rows embed"],
    head_weight: Float[Array, "vocab embed"],
    targets: DistillTargets,
    weights: LossTerms,
    *,
    divergence: losses.Divergence = losses.forward_kl,
    temperature: float | Float[Array, ""] = 1.0,
    logit_softcap: float | None = None,
) -> tuple[Float[Array, ""], LossTerms]:
    """Weighted sum over rows of cross entropy, divergence and label KL; the plain form.

    Args:
      hidden: Final hidden states of the scored positions; their dtype is that of the products.
      head_weight: In the layout of a tied embedding.
      targets: What each row should predict.
      weights: Factor of each term at each row; a row of weight 0 contributes nothing. The squared
        temperature and the token count are the caller's to put in.
      divergence: One of `losses.DIVERGENCES`.
      temperature: Divides the logits in the divergence alone. A Python 1 saves a pass.
      logit_softcap: Logits become softcap * tanh(logits / softcap).

    Returns:
      The sum, and the unweighted terms for metrics, which carry no gradient. A term without
      targets is None.

    Raises:
      ValueError: If weights and targets do not name the same terms.
    """
    check_terms(targets, weights)
    return loss_from_logits(
        project(hidden, head_weight.astype(hidden.dtype)),
        targets,
        weights,
        static_temperature(temperature),
        divergence=divergence,
        logit_softcap=logit_softcap,
    )


def rematerialized_distill_loss(
    hidden: Float[Array, "rows embed"],
    head_weight: Float[Array, "vocab embed"],
    targets: DistillTargets,
    weights: LossTerms,
    *,
    chunk_rows: int,
    **options,
) -> tuple[Float[Array, ""], LossTerms]:
    """`distill_loss` in chunks whose logits the backward pass computes once more.

    What automatic differentiation alone can do against the memory of the logits, and so the
    reference for `fused_head.fused_distill_loss`: four products a chunk instead of three, and the
    head's gradient sums up in its own dtype.

    Args:
      hidden: See `distill_loss`.
      head_weight: See `distill_loss`.
      targets: See `distill_loss`.
      weights: See `distill_loss`.
      chunk_rows: Most rows in a chunk.
      **options: See `distill_loss`.

    Returns:
      See `distill_loss`.
    """

    @jax.checkpoint
    def chunk_loss(hidden, targets, weights):
        return distill_loss(hidden, head_weight, targets, weights, **options)

    losses_of_chunks, terms = jax.lax.map(
        lambda chunk: chunk_loss(*chunk), split_rows((hidden, targets, weights), chunk_rows)
    )
    return jnp.sum(losses_of_chunks), join_rows(terms, len(hidden))


def project(hidden, head_weight):
    """Logits in float32, [rows, vocab], whatever the dtype of the factors."""
    return jnp.einsum("re,ve->rv", hidden, head_weight, preferred_element_type=jnp.float32)


def static_temperature(temperature):
    """None for a temperature known to be 1 when the program is traced."""
    return None if isinstance(temperature, int | float) and temperature == 1 else temperature


def check_terms(targets: DistillTargets, weights: LossTerms) -> None:
    """Refuses weights of a term that has no targets, and targets of a term without weights."""
    for name, target, weight in (
        ("divergence", targets.teacher, weights.divergence),
        ("label_kl", targets.labels, weights.label_kl),
    ):
        if (target is None) != (weight is None):
            given = ("weights", "targets") if target is None else ("targets", "weights")
            raise ValueError(
                f"The term {name} has {given[0]} but no {given[1]}; give both or neither."
            )


def loss_from_logits(
    logits, targets, weights, temperature, *, divergence, logit_softcap, vocab_axis=None
):
    """Loss and terms, see `distill_loss`; under `vocab_axis` logits are this device's part."""
    if logit_softcap is not None:
        logits = logit_softcap * jnp.tanh(logits / logit_softcap)
    terms = _terms(logits, targets, temperature, divergence, vocab_axis)
    weighted = jax.tree.map(lambda weight, term: jnp.sum(weight * term), weights, terms)
    loss = sum(jax.tree.leaves(weighted), jnp.zeros((), jnp.float32))
    return loss, jax.lax.stop_gradient(terms)


def _terms(logits, targets, temperature, divergence, vocab_axis):
    tokens, teacher, labels = targets
    # One gather serves all terms: the slots of a row are its target, its top k, its labels.
    ids = [tokens[:, None]]
    kept = [jnp.zeros_like(tokens[:, None], dtype=bool)]
    if teacher is not None:
        ids.append(teacher.top_k_ids)
        kept.append(teacher.kept)
    if labels is not None:
        ids.append(labels.label_ids)
        kept.append(jnp.zeros_like(labels.label_ids, dtype=bool))
    summary = summarize_logits(
        logits,
        jnp.concatenate(ids, axis=1),
        jnp.concatenate(kept, axis=1),
        (1.0,) if temperature is None else (1.0, temperature),
        vocab_axis,
    )
    k = 0 if teacher is None else teacher.top_k_ids.shape[1]
    target_logits, top_k_logits, label_logits = jnp.split(summary.gathered, (1, 1 + k), axis=1)
    tails = summary.tail_logsumexps

    logsumexp, divergences, label_kls = tails[0], None, None
    if teacher is not None:
        outcomes = student_outcome_logits(top_k_logits, tails[0], teacher)
        logsumexp = jax.nn.logsumexp(outcomes, axis=-1)
        if temperature is not None:
            outcomes = student_outcome_logits(top_k_logits / temperature, tails[1], teacher)
        divergences = sparse_divergence(divergence, outcomes, teacher)
    if labels is not None:
        label_kls = losses.label_kl(label_logits, labels.label_logprobs, labels.label_ids)
    return LossTerms(logsumexp - target_logits[:, 0], divergences, label_kls)
