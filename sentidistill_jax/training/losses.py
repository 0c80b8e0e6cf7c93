"""Distances between a student and a teacher, per position, in nats.

Every divergence takes the logprobs of student and teacher, normalized over the last axis, computes
in float32 and leaves masking and reduction to its caller: [*positions, outcomes] to [*positions].
An outcome of logprob -inf has no mass and is ignored, also by gradients.
The outcomes are the whole vocabulary, or the few entries of a cached teacher with the rest of the
vocabulary as one more outcome (see `distill_loss.py`). The square of the temperature that
divides the logits is not applied here.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# Stands for log 0: finite, so that 0 * log 0 is 0 and not NaN, in values and in gradients.
LOG_ZERO = -1e30

Divergence = Callable[[Array, Array], Array]


def forward_kl(
    student_logprobs: Float[Array, "*positions outcomes"],
    teacher_logprobs: Float[Array, "*positions outcomes"],
) -> Float[Array, "*positions"]:
    """KL(teacher || student): asks the student to cover all that the teacher finds likely."""
    return _kl(_logprobs(teacher_logprobs), _logprobs(student_logprobs))


def reverse_kl(
    student_logprobs: Float[Array, "*positions outcomes"],
    teacher_logprobs: Float[Array, "*positions outcomes"],
) -> Float[Array, "*positions"]:
    """KL(student || teacher): asks the student to stay where the teacher has mass.

    Infinite in theory (about 1e30 here) where the student has mass and the teacher none, so not
    for a teacher from `distill_loss.renormalize_top_k`.
    """
    return _kl(_logprobs(student_logprobs), _logprobs(teacher_logprobs))


def jsd(
    student_logprobs: Float[Array, "*positions outcomes"],
    teacher_logprobs: Float[Array, "*positions outcomes"],
    *,
    beta: float = 0.5,
) -> Float[Array, "*positions"]:
    """Generalized Jensen-Shannon divergence, bounded by log 2.

    beta KL(teacher || m) + (1 - beta) KL(student || m), with m = beta teacher + (1 - beta) student.

    Raises:
      ValueError: If beta lies outside (0, 1).

    Source: Agarwal et al. 2024, sec. 2 (arXiv:2306.13649).
    """
    if not 0.0 < beta < 1.0:
        raise ValueError(f"beta={beta} must lie in (0, 1); use forward_kl or reverse_kl at an end.")
    teacher, student = _logprobs(teacher_logprobs), _logprobs(student_logprobs)
    middle = _mixture(teacher, student, beta)
    return beta * _kl(teacher, middle) + (1.0 - beta) * _kl(student, middle)


def skew_forward_kl(
    student_logprobs: Float[Array, "*positions outcomes"],
    teacher_logprobs: Float[Array, "*positions outcomes"],
    *,
    skew: float = 0.1,
) -> Float[Array, "*positions"]:
    """KL(teacher || skew teacher + (1 - skew) student), bounded by -log(skew).

    Raises:
      ValueError: If skew lies outside (0, 1).

    Source: Ko et al. 2024, eq. 4 (arXiv:2402.03898).
    """
    _check_skew(skew)
    teacher, student = _logprobs(teacher_logprobs), _logprobs(student_logprobs)
    return _kl(teacher, _mixture(teacher, student, skew))


def skew_reverse_kl(
    student_logprobs: Float[Array, "*positions outcomes"],
    teacher_logprobs: Float[Array, "*positions outcomes"],
    *,
    skew: float = 0.1,
) -> Float[Array, "*positions"]:
    """KL(student || skew student + (1 - skew) teacher), bounded by -log(skew).

    Raises:
      ValueError: If skew lies outside (0, 1).

    Source: Ko et al. 2024, sec. 3.1 (arXiv:2402.03898).
    """
    _check_skew(skew)
    teacher, student = _logprobs(teacher_logprobs), _logprobs(student_logprobs)
    return _kl(student, _mixture(student, teacher, skew))


def total_variation(
    student_logprobs: Float[Array, "*positions outcomes"],
    teacher_logprobs: Float[Array, "*positions outcomes"],
) -> Float[Array, "*positions"]:
    """Half the summed absolute difference of the probs, in [0, 1].

    Returns:
      Probability mass per position (the one distance here that is not in nats).
    """
    teacher, student = _logprobs(teacher_logprobs), _logprobs(student_logprobs)
    return 0.5 * jnp.sum(jnp.abs(jnp.exp(teacher) - jnp.exp(student)), axis=-1)


# By the names that `config.objective` uses; fix beta or skew with functools.partial.
DIVERGENCES: dict[str, Divergence] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jsd": jsd,
    "skew_forward_kl": skew_forward_kl,
    "skew_reverse_kl": skew_reverse_kl,
    "tvd": total_variation,
}
_UNITS = {"tvd": "mass"}  # of those that are not in nats


def unit_of(divergence: str) -> str:
    """Unit of a divergence, as the names of metrics end in it: nats, or a probability mass."""
    return _UNITS.get(divergence, "nats")


def sampled_divergence(
    divergence: Divergence,
    student_logprobs: Float[Array, "*positions samples"],
    teacher_logprobs: Float[Array, "*positions samples"],
    log_weights: Float[Array, "*positions samples"],
) -> Float[Array, "*positions"]:
    """Unbiased estimate of a full-vocabulary divergence from tokens drawn from the teacher.

    All divergences here are sums of f(student, teacher) with f homogeneous of degree one, so that
    f(q, p) = p f(q / p, 1) and the sum is an expectation under the teacher: the average of
    f(q / p, 1) over draws, or over distinct tokens with their share of the draws as weight. Tokens
    drawn from another distribution carry the importance ratio in their weight.

    Args:
      divergence: One of `DIVERGENCES`.
      student_logprobs: Of the drawn tokens, over the full vocabulary.
      teacher_logprobs: Of the drawn tokens, over the full vocabulary, at the student's temperature.
      log_weights: Log of each token's share of the draws; -inf for padding.

    Returns:
      Nats per position; a single estimate may be negative.

    Source: for the forward KL, Anshumann et al. 2025 (arXiv:2503.16870).
    """
    ratio = jnp.where(log_weights > -jnp.inf, student_logprobs - teacher_logprobs, 0.0)
    return divergence(ratio + log_weights, log_weights)


def label_kl(
    label_logits: Float[Array, "*positions labels"],
    teacher_label_logprobs: Float[Array, "*positions labels"],
    label_ids: Int[Array, "*positions labels"],
) -> Float[Array, "*positions"]:
    """KL(teacher || student) over the label words alone, which is what an argmax over them reads.

    Args:
      label_logits: The student's raw scores of the label words.
      teacher_label_logprobs: Normalized over the labels.
      label_ids: First token of each label word; -1 marks padding.

    Returns:
      Nats per position; 0 where all labels are padding.
    """
    present = label_ids >= 0
    label_logits = jnp.where(present, label_logits.astype(jnp.float32), LOG_ZERO)
    teacher_label_logprobs = jnp.where(present, teacher_label_logprobs, -jnp.inf)
    return forward_kl(jax.nn.log_softmax(label_logits, axis=-1), teacher_label_logprobs)


def _logprobs(logprobs):
    return jnp.maximum(logprobs.astype(jnp.float32), LOG_ZERO)


def _kl(first, second):
    return jnp.sum(jnp.exp(first) * (first - second), axis=-1)


def _mixture(first, second, first_weight):
    return jnp.logaddexp(first + jnp.log(first_weight), second + jnp.log1p(-first_weight))


def _check_skew(skew):
    if not 0.0 < skew < 1.0:
        raise ValueError(f"skew={skew} must lie in (0, 1); use the plain KL for skew 0.")
