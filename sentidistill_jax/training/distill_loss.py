"""The weighted distillation loss of some scored rows, from their logits.

Three parts: the sparse teacher and what a student is held to of it; the summary of a row of logits,
the only place where a loss touches arrays of vocabulary size; and the loss that joins them. The
plain form here holds all logits at once; `fused_head.py` computes the same without them.

The teacher is what the cache keeps: a few entries and the mass of all the others. Three ways to
hold a student against it, all through `sparse_divergence`:
  the tail as one more outcome (default): a lower bound of the full divergence, exact at k = vocab;
  the top-k entries as the whole teacher: first call `renormalize_top_k`;
  an unbiased estimate from drawn tokens: set `sample_log_weights`.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sentidistill_jax.training import losses
from sentidistill_jax.training.losses import LOG_ZERO, Divergence, sampled_divergence


class SparseTeacher(NamedTuple):
    """Teacher per position, all of it at one temperature."""

    top_k_ids: Int[Array, "*positions k"]  # distinct within a position, any id where padded
    top_k_logprobs: Float[Array, "*positions k"]  # over the full vocabulary; -inf where padded
    tail_logprob: Float[Array, "*positions"]  # log mass of all tokens outside top_k_ids
    # Set for a teacher of drawn tokens: log of each one's share of the draws, -inf where padded.
    sample_log_weights: Float[Array, "*positions k"] | None = None

    @property
    def kept(self) -> Array:
        """True where an entry is not padding, bool [*positions k]."""
        return self.top_k_logprobs > -jnp.inf


def at_temperature(
    top_k_logprobs: Float[Array, "*positions k"],
    tail_logprob: Float[Array, "*positions"],
    temperature: float | Float[Array, ""],
) -> Float[Array, "*positions k"]:
    """Teacher logprobs at a temperature, from those at temperature 1 and the stored tail mass.

    Dividing logprobs by the temperature fixes the kept entries up to one constant per position,
    and the tail mass at that temperature, which the entries cannot tell, fixes the constant.

    Args:
      top_k_logprobs: Over the full vocabulary at temperature 1; -inf where padded.
      tail_logprob: Log mass outside the kept entries at `temperature`.
      temperature: Divides the logits; positive.

    Returns:
      Logprobs over the full vocabulary at `temperature`; -inf where padded.
    """
    scaled = top_k_logprobs.astype(jnp.float32) / temperature
    kept_logprob = _log1mexp(tail_logprob.astype(jnp.float32))[..., None]
    normalizer = jax.nn.logsumexp(scaled, axis=-1, keepdims=True)
    return jnp.where(scaled > -jnp.inf, scaled - normalizer + kept_logprob, -jnp.inf)


def renormalize_top_k(teacher: SparseTeacher) -> SparseTeacher:
    """The teacher conditioned on its kept entries: none of its mass is in the tail.

    The student stays normalized over the vocabulary, so mass it leaves in the tail still costs it.
    Not for `reverse_kl`, which is infinite then.
    """
    normalizer = jax.nn.logsumexp(teacher.top_k_logprobs, axis=-1, keepdims=True)
    return teacher._replace(
        # A position without any entry stays without, instead of -inf - -inf.
        top_k_logprobs=jnp.where(teacher.kept, teacher.top_k_logprobs - normalizer, -jnp.inf),
        tail_logprob=jnp.full_like(teacher.tail_logprob, -jnp.inf),
    )


def student_outcome_logits(
    top_k_logits: Float[Array, "*positions k"],
    tail_logsumexp: Float[Array, "*positions"],
    teacher: SparseTeacher,
) -> Float[Array, "*positions outcomes"]:
    """The student's logits of k + 1 outcomes; their logsumexp is that of the whole vocabulary.

    Taking the tail as a logit of its own, never as 1 minus the kept mass, keeps it exact however
    little mass it has.

    Args:
      top_k_logits: At `teacher.top_k_ids`, divided by the temperature.
      tail_logsumexp: Over all other tokens, of logits divided by the temperature.
      teacher: Says which entries are padding.

    Returns:
      Logits, the tail last.
    """
    top_k_logits = jnp.where(teacher.kept, top_k_logits, LOG_ZERO)
    return jnp.concatenate([top_k_logits, tail_logsumexp[..., None]], axis=-1)


def sparse_divergence(
    divergence: Divergence,
    student_logits: Float[Array, "*positions outcomes"],
    teacher: SparseTeacher,
) -> Float[Array, "*positions"]:
    """Distance of a student from a sparse teacher.

    Args:
      divergence: One of `losses.DIVERGENCES`.
      student_logits: From `student_outcome_logits`, at the teacher's temperature.
      teacher: With `sample_log_weights` the estimate is `losses.sampled_divergence`.

    Returns:
      Per position, in the unit of `divergence`.
    """
    student_logprobs = jax.nn.log_softmax(student_logits, axis=-1)
    if teacher.sample_log_weights is not None:
        return sampled_divergence(
            divergence,
            student_logprobs[..., :-1],
            teacher.top_k_logprobs,
            teacher.sample_log_weights,
        )
    teacher_logprobs = jnp.concatenate(
        [teacher.top_k_logprobs, teacher.tail_logprob[..., None]], axis=-1
    )
    return divergence(student_logprobs, teacher_logprobs)


def _log1mexp(x):
    """log(1 - exp(x)) for x <= 0; each branch is accurate on its side of -log 2."""
    near_zero = x > -jnp.log(2.0)
    return jnp.where(
        near_zero, jnp.log(-jnp.expm1(x)), jnp.log1p(-jnp.exp(jnp.where(near_zero, -1.0, x)))
    )


class LogitSummary(NamedTuple):
    """Logits of each row less a constant of that row, in float32; only for what ignores a shift."""

    gathered: Float[Array, "rows slots"]  # logits at the ids; meaningless in empty slots
    tail_logsumexps: tuple[Float[Array, "rows"], ...]  # of logits / temperature, kept ids left out


def summarize_logits(
    logits: Float[Array, "rows vocab"],
    ids: Int[Array, "rows slots"],
    kept: Bool[Array, "rows slots"],
    temperatures: Sequence[float | Float[Array, ""]],
    vocab_axis: str | None = None,
) -> LogitSummary:
    """Gathers the logits at `ids` and sums up the others, at each temperature.

    Args:
      logits: The whole vocabulary, or this device's part of it.
      ids: Vocabulary ids; any outside [0, vocab) marks an empty slot.
      kept: Which slots the tail leaves out.
      temperatures: Each positive; the gathered logits are not divided.
      vocab_axis: Mesh axis over which the vocabulary is sharded, inside `jax.shard_map`.

    Returns:
      The summary of the whole vocabulary, the same on all devices along `vocab_axis`; -inf is the
      logsumexp of an empty tail.
    """
    vocab = logits.shape[-1]
    if vocab_axis is not None:
        ids = ids - jax.lax.axis_index(vocab_axis) * vocab
    # One spelling of "not here": `vocab` is out of bounds, where a negative id would wrap around.
    slots = jnp.where((ids >= 0) & (ids < vocab), ids, vocab)
    tail_slots = jnp.where(kept, slots, vocab)
    return _summarize(
        vocab_axis, logits.astype(jnp.float32), slots, tail_slots, tuple(temperatures)
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _summarize(vocab_axis, logits, slots, tail_slots, temperatures):
    return _summarize_forward(vocab_axis, logits, slots, tail_slots, temperatures)[0]


def _summarize_forward(vocab_axis, logits, slots, tail_slots, temperatures):
    rows = jnp.arange(len(logits))[:, None]
    gathered = logits.at[rows, slots].get(mode="fill", fill_value=0.0)
    tail_logits = logits.at[rows, tail_slots].set(-jnp.inf, mode="drop")
    tail_max = jnp.max(tail_logits, axis=-1, keepdims=True)
    if vocab_axis is not None:
        gathered = jax.lax.psum(gathered, vocab_axis)
        tail_max = jax.lax.pmax(tail_max, vocab_axis)
    tail_max = jnp.where(tail_max > -jnp.inf, tail_max, 0.0)  # an empty tail must not make NaN
    tail_masses = []
    for temperature in temperatures:
        mass = jnp.sum(jnp.exp((tail_logits - tail_max) / temperature), axis=-1)
        tail_masses.append(mass if vocab_axis is None else jax.lax.psum(mass, vocab_axis))
    # The row constant is the largest tail logit: the sums above neither overflow nor vanish, and
    # the losses lose no digits to logits far from zero.
    summary = LogitSummary(gathered - tail_max, tuple(jnp.log(mass) for mass in tail_masses))
    return summary, (tail_logits, tail_max, tail_masses, slots, temperatures)


def _summarize_backward(vocab_axis, residuals, cotangent):
    del vocab_axis  # the cotangent is the same along it, and each device owns its logits
    tail_logits, tail_max, tail_masses, slots, temperatures = residuals
    gradient = jnp.zeros_like(tail_logits)
    for temperature, mass, weight in zip(
        temperatures, tail_masses, cotangent.tail_logsumexps, strict=True
    ):
        scale = weight / (temperature * jnp.where(mass > 0, mass, 1.0))
        gradient += jnp.exp((tail_logits - tail_max) / temperature) * scale[:, None]
    rows = jnp.arange(len(slots))[:, None]
    return gradient.at[rows, slots].add(cotangent.gathered, mode="drop"), None, None, None


_summarize.defvjp(_summarize_forward, _summarize_backward)


class LabelTargets(NamedTuple):
    """The teacher's choice among the label words."""

    label_ids: Int[Array, "rows labels"]  # first token of each label word; -1 marks padding
    label_logprobs: Float[Array, "rows labels"]  # normalized over the labels


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
