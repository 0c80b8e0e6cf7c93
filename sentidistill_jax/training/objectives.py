"""What is minimised: token and label targets of a batch, weighted and normalised."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from sentidistill_jax.data.batch import Batch
from sentidistill_jax.training import losses
from sentidistill_jax.training.distill_loss import (
    DistillTargets,
    LabelTargets,
    LossTerms,
    SparseTeacher,
    at_temperature,
    renormalize_top_k,
)
from sentidistill_jax.training.fused_head import fused_distill_loss

Progress = float | jax.Array  # fraction of the run that is done
# KnowDist learns what the teacher writes; ICLDist also which label word it would choose.
OBJECTIVES = ("knowdist", "icldist")
# (fraction of the run, value) pairs, in order of the run.
Points = tuple[tuple[float, float], ...]


@dataclasses.dataclass(frozen=True)
class Objective:
    """(1 - alpha) ce + alpha temperature^2 divergence per token, plus label_weight label_kl.

    The last term is that of ICLDist alone. Token terms are divided by the global number of
    completion tokens, the label term by the global number of answers, so neither depends on how
    rows were packed or sharded. With alpha 0 this is sequence-level distillation: cross entropy on
    the teacher's text (arXiv:1606.07947), which is what arXiv:2503.03225 trains with.

    Raises:
      ValueError: If a name is unknown or a number means nothing.
    """

    name: str = "knowdist"
    divergence: str = "forward_kl"
    alpha: float = 0.5
    alpha_schedule: Points = ()  # alpha goes along lines from its value at 0 through these points
    temperature: float = 1.0
    temperature_schedule: Points = ()  # at each point it jumps to the value
    label_weight: float = 0.0
    renormalize_top_k: bool = False  # the kept entries are the whole teacher, the tail is dropped
    sampled: bool = False  # the teacher is known by draws alone; the cache says so

    def __post_init__(self):
        for field, value, known in (
            ("name", self.name, OBJECTIVES),
            ("divergence", self.divergence, sorted(losses.DIVERGENCES)),
        ):
            if value not in known:
                raise ValueError(f"objective.{field}={value!r} must be one of {list(known)}.")
        alphas = [self.alpha, *_check_points("alpha_schedule", self.alpha_schedule)]
        _check_points("temperature_schedule", self.temperature_schedule)
        if (
            not all(0 <= alpha <= 1 for alpha in alphas)
            or min(self.temperatures) <= 0
            or self.label_weight < 0
        ):
            raise ValueError(
                f"objective got alpha {alphas}, temperature {list(self.temperatures)},"
                f" label_weight={self.label_weight}; expected alpha in [0, 1], temperature > 0 and"
                " label_weight >= 0."
            )
        if self.name == "knowdist" and self.label_weight:
            raise ValueError(
                f"objective.label_weight={self.label_weight} has no effect with"
                " objective.name='knowdist'; set it to 0 or the name to 'icldist'."
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

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Those of the run, in order; the teacher's tail mass must be known at each."""
        return (self.temperature, *(value for _, value in self.temperature_schedule))

    @property
    def needs_distributions(self) -> bool:
        """Whether the teacher's text alone does not suffice at some point of the run."""
        return max(self.alpha, *(value for _, value in self.alpha_schedule), 0) > 0

    def alpha_at(self, progress: Progress) -> float | jax.Array:
        """Alpha when this fraction of the run is done; a Python number if it never changes."""
        if not self.alpha_schedule:
            return self.alpha
        fractions, values = zip((0.0, self.alpha), *self.alpha_schedule, strict=True)
        return jnp.interp(progress, jnp.array(fractions), jnp.array(values))

    def temperature_index_at(self, progress: Progress) -> int | jax.Array:
        """Index into `temperatures` when this fraction of the run is done."""
        if not self.temperature_schedule:
            return 0
        starts = jnp.array([fraction for fraction, _ in self.temperature_schedule])
        return jnp.sum(progress >= starts)


def _check_points(name: str, points: Points) -> list[float]:
    """The values of a schedule whose fractions rise within (0, 1]."""
    fractions = [0.0, *(point[0] for point in points)]
    if any(len(point) != 2 for point in points) or not all(
        before < after <= 1 for before, after in itertools.pairwise(fractions)
    ):
        raise ValueError(
            f"objective.{name}={points!r} must be (fraction of the run, value) pairs whose"
            " fractions rise within (0, 1]."
        )
    return [value for _, value in points]


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
    progress: Progress,
    num_kinds: int,
    mesh: Mesh | None,
    logit_softcap: float | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The objective of some rows.

    Args:
      hidden: Final hidden states, [batch, seq, embed].
      head_weight: [vocab, embed].
      batch: Its targets.
      normalizers: Counts of the whole batch that these rows are part of.
      objective: What is minimised.
      progress: Fraction of the run that is done, for what changes in its course.
      num_kinds: Length of the per-kind metrics.
      mesh: Of more than one device, or None.
      logit_softcap: Of the student's logits, where it has one.

    Returns:
      The loss's share of these rows, and unweighted sums per kind, each [kinds]: `tokens`, `ce` and
      `divergence` in nats; of ICLDist also `answers` and `label_kl`.
    """
    scored = jnp.take_along_axis(hidden, batch.scored[:, :, None], axis=1)

    def flat(array: jax.Array) -> jax.Array:
        return array.reshape(-1, *array.shape[2:])

    mask, weight = flat(batch.loss_mask), flat(batch.loss_weights)
    alpha = objective.alpha_at(progress)
    temperature_index = objective.temperature_index_at(progress)
    temperature = objective.temperature
    if objective.temperature_schedule:
        temperature = jnp.array(objective.temperatures)[temperature_index]
    top_k_logprobs = flat(batch.top_k_logprobs)
    tail_logprobs = jnp.take(flat(batch.tail_logprobs), temperature_index, axis=-1)
    if objective.temperatures != (1,):
        top_k_logprobs = at_temperature(top_k_logprobs, tail_logprobs, temperature)
    teacher = SparseTeacher(
        flat(batch.top_k_ids),
        top_k_logprobs,
        tail_logprobs,
        sample_log_weights=top_k_logprobs if objective.sampled else None,
    )
    targets = DistillTargets(
        tokens=flat(batch.targets),
        teacher=renormalize_top_k(teacher) if objective.renormalize_top_k else teacher,
    )
    per_token = weight / normalizers.tokens
    weights = LossTerms(ce=(1 - alpha) * per_token, divergence=alpha * temperature**2 * per_token)
    if objective.name == "icldist":
        answers = flat(jnp.any(batch.label_ids >= 0, axis=-1)).astype(jnp.float32)
        targets = targets._replace(
            labels=LabelTargets(flat(batch.label_ids), flat(batch.label_logprobs))
        )
        weights = weights._replace(
            label_kl=objective.label_weight * answers * weight / normalizers.answers
        )
    loss, terms = fused_distill_loss(
        flat(scored),
        head_weight,
        targets,
        weights,
        divergence=losses.DIVERGENCES[objective.divergence],
        temperature=temperature,
        logit_softcap=logit_softcap,
        mesh=mesh,
    )
    kinds = flat(batch.kind_ids)

    def by_kind(values: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(values, kinds, num_segments=num_kinds)

    assert terms.divergence is not None
    sums = {
        "tokens": by_kind(mask),
        "ce": by_kind(mask * terms.ce),
        "divergence": by_kind(mask * terms.divergence),
    }
    if objective.name == "icldist":
        assert terms.label_kl is not None
        sums |= {"answers": by_kind(answers), "label_kl": by_kind(answers * terms.label_kl)}
    return loss, sums
