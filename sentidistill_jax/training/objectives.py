"""What is minimized: the seam between a training step and its teacher.

A step asks an `Objective` twice: for the teacher's signal on a batch, and for the loss of the
student's hidden states given that signal. `CachedObjective` reads the signal from the batch, which
the cache filled. A teacher that lives beside the student computes it from arrays of its own. A new
objective is one class and one entry of `OBJECTIVES`; the step, the loop and the metrics know none.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from sentidistill_jax.data.batch import Batch
from sentidistill_jax.data.teacher_cache import TEXT_MODE, CacheMismatchError, CacheReader
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
# (fraction of the run, value) pairs, in order of the run.
Points = tuple[tuple[float, float], ...]


class StudentOutput(NamedTuple):
    """What an objective sees of the student."""

    hidden: Float[Array, "batch scored embed"]  # final hidden states at the scored positions
    head_weight: Float[Array, "vocab embed"]
    logit_softcap: float | None = None


class Mean(NamedTuple):
    """A metric as the two sums of its average; [kinds] each, so that it is known per kind too."""

    total: jax.Array | np.ndarray
    count: jax.Array | np.ndarray


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


class Objective:
    """What a step minimizes, and where its teacher's opinion comes from; subclass and register it.

    `teacher` is a pytree of arrays that `teacher_signal` reads and nothing changes, placed on the
    mesh. It travels in the state of the step, which takes its memory; None where a batch says all.
    """

    teacher: Any = None

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperatures of the run, in order, at which batches must hold the teacher's tail mass."""
        return (1.0,)

    @property
    def needs_distributions(self) -> bool:
        """Whether caches must hold more of the teacher than its text."""
        return False

    def for_caches(self, readers: Sequence[CacheReader]) -> "Objective":
        """The objective as these caches need it.

        Raises:
          CacheMismatchError: If they do not hold what it asks for.
        """
        del readers
        return self

    def teacher_signal(self, teacher: Any, batch: Batch, progress: Progress) -> Any:
        """What the teacher says at the scored positions of a batch; no gradient flows into it.

        Args:
          teacher: `self.teacher`, as the step holds it.
          batch: Rows of a batch.
          progress: Fraction of the run that is done.

        Returns:
          Any pytree that `loss` understands.
        """
        raise NotImplementedError

    def loss(
        self,
        student: StudentOutput,
        signal: Any,
        batch: Batch,
        normalizers: Normalizers,
        *,
        progress: Progress,
        num_kinds: int,
        mesh: Mesh | None,
    ) -> tuple[jax.Array, dict[str, Mean]]:
        """The share of some rows in the loss of a batch.

        Args:
          student: At the scored positions of the rows.
          signal: From `teacher_signal` of the same rows.
          batch: The rows.
          normalizers: Counts of the whole batch that the rows are part of.
          progress: Fraction of the run that is done.
          num_kinds: Length of the metrics.
          mesh: Of more than one device, or None.

        Returns:
          The loss, and metrics by name, unit included: `train/<name>` is their average.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class CachedObjective(Objective):
    """(1 - alpha) ce + alpha temperature^2 divergence per token, plus label_weight label_kl.

    The teacher is what a cache holds. KnowDist learns what it writes; ICLDist also which label word
    it would choose, in the last term. Token terms are divided by the global number of
    completion tokens, the label term by the global number of answers, so neither depends on how
    rows were packed or sharded. With alpha 0 this is sequence-level distillation: cross entropy on
    the teacher's text (arXiv:1606.07947), which is what arXiv:2503.03225 trains with.

    Raises:
      ValueError: If the divergence is unknown or a number means nothing.
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
        if self.divergence not in losses.DIVERGENCES:
            raise ValueError(
                f"objective.divergence={self.divergence!r} must be one of"
                f" {sorted(losses.DIVERGENCES)}."
            )
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
                " teacher none, as outside a renormalized top-k; set"
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
        """Temperatures of the run, in order; the teacher's tail mass must be known at each."""
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

    def for_caches(self, readers: Sequence[CacheReader]) -> "CachedObjective":
        """The objective that knows whether its caches hold draws.

        Raises:
          CacheMismatchError: If a cache has mode `text` and alpha is not 0 throughout.
          ValueError: If the divergence has no meaning for draws.
        """
        for reader in readers:
            if self.needs_distributions and reader.manifest.mode == TEXT_MODE:
                vocabularies = reader.manifest.config.get("vocabularies", {})
                why = "".join(
                    f"; the {who}'s tokens are the {of['size']:,} of {of['source']}"
                    for who, of in sorted(vocabularies.items(), reverse=True)
                )
                raise CacheMismatchError(
                    "of a teacher's text",
                    [
                        f"it holds no distributions, and objective.alpha={self.alpha} needs"
                        f" them{why}; set --config.objective.alpha=0 and no alpha_schedule"
                    ],
                )
        sampled = any(reader.manifest.mode == "sampled" for reader in readers)
        return dataclasses.replace(self, sampled=sampled)

    def teacher_signal(self, teacher: None, batch: Batch, progress: Progress) -> "CachedSignal":
        """The targets of the batch, at the temperature of this moment of the run."""
        del teacher
        temperature_index = self.temperature_index_at(progress)
        temperature = self.temperature
        if self.temperature_schedule:
            temperature = jnp.array(self.temperatures)[temperature_index]
        top_k_logprobs = _flat(batch.top_k_logprobs)
        tail_logprobs = jnp.take(_flat(batch.tail_logprobs), temperature_index, axis=-1)
        if self.temperatures != (1,):
            top_k_logprobs = at_temperature(top_k_logprobs, tail_logprobs, temperature)
        sparse = SparseTeacher(
            _flat(batch.top_k_ids),
            top_k_logprobs,
            tail_logprobs,
            sample_log_weights=top_k_logprobs if self.sampled else None,
        )
        labels = None
        if self.name == "icldist":
            labels = LabelTargets(_flat(batch.label_ids), _flat(batch.label_logprobs))
        targets = DistillTargets(
            tokens=_flat(batch.targets),
            teacher=renormalize_top_k(sparse) if self.renormalize_top_k else sparse,
            labels=labels,
        )
        return CachedSignal(targets, temperature)

    def loss(
        self,
        student: StudentOutput,
        signal: "CachedSignal",
        batch: Batch,
        normalizers: Normalizers,
        *,
        progress: Progress,
        num_kinds: int,
        mesh: Mesh | None,
    ) -> tuple[jax.Array, dict[str, Mean]]:
        """See `Objective.loss`; the metrics are unweighted, those of labels ICLDist's alone."""
        targets, temperature = signal
        mask, weight = _flat(batch.loss_mask), _flat(batch.loss_weights)
        alpha = self.alpha_at(progress)
        per_token = weight / normalizers.tokens
        weights = LossTerms((1 - alpha) * per_token, alpha * temperature**2 * per_token)
        counted = {"ce_nats": mask, f"divergence_{losses.unit_of(self.divergence)}": mask}
        if targets.labels is not None:
            answers = _flat(jnp.any(batch.label_ids >= 0, axis=-1)).astype(jnp.float32)
            label_weights = self.label_weight * answers * weight / normalizers.answers
            weights = weights._replace(label_kl=label_weights)
            counted["label_kl_nats"] = answers
        loss, terms = fused_distill_loss(
            _flat(student.hidden),
            student.head_weight,
            targets,
            weights,
            divergence=losses.DIVERGENCES[self.divergence],
            temperature=temperature,
            logit_softcap=student.logit_softcap,
            mesh=mesh,
        )
        kinds = _flat(batch.kind_ids)

        def by_kind(values: jax.Array) -> jax.Array:
            return jax.ops.segment_sum(values, kinds, num_segments=num_kinds)

        values = [term for term in terms if term is not None]
        return loss, {
            name: Mean(by_kind(mask * value), by_kind(mask))
            for (name, mask), value in zip(counted.items(), values, strict=True)
        }


class CachedSignal(NamedTuple):
    """What a cache says of the scored positions, [batch x scored] rows."""

    targets: DistillTargets
    temperature: float | jax.Array  # at which the teacher's distributions are


# By the names that `config.objective.name` has; each is called with that section's fields.
OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "knowdist": CachedObjective,
    "icldist": CachedObjective,
}


def make_objective(settings: Mapping[str, Any]) -> Objective:
    """The objective that a config's section `objective` describes.

    Raises:
      ValueError: If the name is unknown or a number means nothing.
    """
    if settings["name"] not in OBJECTIVES:
        raise ValueError(f"objective.name={settings['name']!r} must be one of {list(OBJECTIVES)}.")
    return OBJECTIVES[settings["name"]](**settings)


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


def _flat(array: jax.Array) -> jax.Array:
    """An array [batch, scored, ...] as rows [batch x scored, ...]."""
    return array.reshape(-1, *array.shape[2:])
