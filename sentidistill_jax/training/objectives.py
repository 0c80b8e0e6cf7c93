"""What is minimised: token and label targets of a batch, weighted and normalised."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from sentidistill_jax.data.batch import Batch
from sentidistill_jax.training import losses
from sentidistill_jax.training.distill_loss import DistillTargets, LabelTargets, LossTerms
from sentidistill_jax.training.fused_head import fused_distill_loss
from sentidistill_jax.training.sparse_teacher import (
    SparseTeacher,
    at_temperature,
    renormalize_top_k,
)


@dataclasses.dataclass(frozen=True)
class Objective:
    """(1 - alpha) ce + alpha temperature^2 divergence per token, plus label_weight label_kl.

    Token terms are divided by the global number of completion tokens, the label term by the global
    number of answers, so neither depends on how rows were packed or sharded.
    """

    divergence: str = "forward_kl"
    alpha: float = 0.5  # 0: the teacher's text alone, as in sequence-level distillation
    temperature: float = 1.0
    label_weight: float = 0.0
    renormalize_top_k: bool = False  # the kept entries are the whole teacher, the tail is dropped
    sampled: bool = False  # the teacher is known by draws alone; the cache says so

    def __post_init__(self):
        if self.divergence not in losses.DIVERGENCES:
            raise ValueError(
                f"objective.divergence={self.divergence!r} must be one of"
                f" {sorted(losses.DIVERGENCES)}."
            )
        if not 0 <= self.alpha <= 1 or self.temperature <= 0 or self.label_weight < 0:
            raise ValueError(
                f"objective got alpha={self.alpha}, temperature={self.temperature},"
                f" label_weight={self.label_weight}; expected alpha in [0, 1], temperature > 0 and"
                " label_weight >= 0."
            )
        if self.renormalize_top_k and self.divergence == "reverse_kl":
            raise ValueError(
                "objective.divergence='reverse_kl' is infinite where the student has mass and the"
                " teacher none, as outside a renormalised top-k; set"
                " objective.renormalize_top_k=False or take another divergence."
            )
        if self.sampled and self.divergence != "forward_kl":
            fault = "infinite" if self.divergence == "reverse_kl" else "biased"
            raise ValueError(
                f"objective.divergence={self.divergence!r} is {fault} with a cache of mode"
                " 'sampled', which knows no more of the teacher than its draws; use 'forward_kl' or"
                " a cache of mode top_k or top_p."
            )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Normalizers:
    """What the sums of a batch are divided by; the same for all its micro-batches."""

    tokens: jax.Array
    answers: jax.Array

    @classmethod
    def of(cls, batch: Batch) -> "Normalizers":
        """Global counts, at least 1."""
        answers = jnp.sum(jnp.any(batch.label_ids >= 0, axis=-1))
        return cls(jnp.maximum(jnp.sum(batch.loss_mask), 1.0), jnp.maximum(answers, 1))


def distillation_loss(
    hidden: jax.Array,
    head_weight: jax.Array,
    batch: Batch,
    normalizers: Normalizers,
    objective: Objective,
    *,
    num_kinds: int,
    mesh: Mesh | None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The objective of some rows.

    Args:
      hidden: Final hidden states, [batch, seq, embed].
      head_weight: [vocab, embed].
      batch: Its targets.
      normalizers: Counts of the whole batch that these rows are part of.
      objective: The weights.
      num_kinds: Length of the per-kind metrics.
      mesh: Of more than one device, or None.

    Returns:
      The loss's share of these rows, and sums per kind, each [kinds]: `tokens`, `answers`, `ce`,
      `divergence` and `label_kl` in nats.
    """
    scored = jnp.take_along_axis(hidden, batch.scored[:, :, None], axis=1)

    def flat(array: jax.Array) -> jax.Array:
        return array.reshape(-1, *array.shape[2:])

    mask = flat(batch.loss_mask)
    answers = flat(jnp.any(batch.label_ids >= 0, axis=-1)).astype(jnp.float32)
    top_k_logprobs = flat(batch.top_k_logprobs)
    tail_logprobs = flat(batch.tail_logprobs)
    if objective.temperature != 1:
        top_k_logprobs = at_temperature(top_k_logprobs, tail_logprobs, objective.temperature)
    teacher = SparseTeacher(
        flat(batch.top_k_ids),
        top_k_logprobs,
        tail_logprobs,
        sample_log_weights=top_k_logprobs if objective.sampled else None,
    )
    targets = DistillTargets(
        tokens=flat(batch.targets),
        teacher=renormalize_top_k(teacher) if objective.renormalize_top_k else teacher,
        labels=LabelTargets(flat(batch.label_ids), flat(batch.label_logprobs)),
    )
    per_token = mask / normalizers.tokens
    weights = LossTerms(
        ce=(1 - objective.alpha) * per_token,
        divergence=objective.alpha * objective.temperature**2 * per_token,
        label_kl=objective.label_weight * answers / normalizers.answers,
    )
    loss, terms = fused_distill_loss(
        flat(scored),
        head_weight,
        targets,
        weights,
        divergence=losses.DIVERGENCES[objective.divergence],
        temperature=objective.temperature,
        mesh=mesh,
    )
    assert terms.divergence is not None and terms.label_kl is not None
    kinds = flat(batch.kind_ids)

    def by_kind(values: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(values, kinds, num_segments=num_kinds)

    return loss, {
        "tokens": by_kind(mask),
        "answers": by_kind(answers),
        "ce": by_kind(mask * terms.ce),
        "divergence": by_kind(mask * terms.divergence),
        "label_kl": by_kind(answers * terms.label_kl),
    }
