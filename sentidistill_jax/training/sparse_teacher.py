"""A teacher's distribution as the cache keeps it: a few entries and the mass of all the others.

Three ways to hold a student against it, all through `sparse_divergence`:
  the tail as one more outcome (default): a lower bound of the full divergence, exact at k = vocab;
  the top-k entries as the whole teacher: first call `renormalize_top_k`;
  an unbiased estimate from drawn tokens: set `sample_log_weights`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

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

    The student stays normalised over the vocabulary, so mass it leaves in the tail still costs it.
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
