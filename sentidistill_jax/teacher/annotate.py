"""The teacher's own labels for user texts: few-shot, calibrated, ensembled over demonstrations."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from sentidistill_jax.corpus import icldist
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.distributed import on_process_zero
from sentidistill_jax.language_model import LanguageModel
from sentidistill_jax.teacher.calibration import ensemble, fit_offsets

_CHUNK = 256  # texts between two saves


@dataclasses.dataclass(frozen=True)
class Annotation:
    """The teacher's opinion on one text in one task."""

    task: str
    text_id: str
    label: str  # the likeliest
    logprobs: tuple[float, ...]  # calibrated, over the task's labels in their order


@dataclasses.dataclass(frozen=True)
class Annotator:
    """A teacher that labels texts in one task, shown handwritten demonstrations.

    Args:
      model: The teacher.
      task: A sentiment task of `icldist.TASKS`.
      k_shot: Demonstrations per prompt.
      draws: Different draws of demonstrations whose predictions are averaged.
    """

    model: LanguageModel
    task: str
    k_shot: int
    draws: int

    def __post_init__(self):
        """Refuses what would fail only after hours of labelling."""
        tasks = [name for name, task in icldist.TASKS.items() if task.labels and task.seeds]
        if self.task not in tasks:
            raise ValueError(f"annotate.tasks has {self.task!r}, expected some of {tasks}.")
        if self.draws < 1:
            raise ValueError(f"annotate.draws={self.draws} must be at least 1.")
        most = len(icldist.TASKS[self.task].seeds)
        if not 0 <= self.k_shot <= most:
            raise ValueError(
                f"annotate.k_shot={self.k_shot} must be 0 to {most}, the handwritten demonstrations"
                f" of task {self.task!r}."
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """The task's labels, in the order of all arrays here."""
        return icldist.TASKS[self.task].labels

    def scores(self, texts: Sequence[UnlabelledText], *, progress: str | None = None) -> np.ndarray:
        """Uncalibrated logprobs of the label words, [texts, draws, labels]."""
        by_draw = []
        for draw in range(self.draws):
            shown = icldist.seed_demonstrations(self.task, self.k_shot, draw)
            prompts = [icldist.build_prompt(self.task, text, shown) for text in texts]
            by_draw.append(
                self.model.label_logprobs(
                    [prompt.teacher_prompt for prompt in prompts],
                    prompts[0].label_words,
                    progress=progress and f"{progress}, draw {draw + 1} of {self.draws}",
                )
            )
        return np.stack(by_draw, axis=1)

    def resumable_scores(self, texts: Sequence[UnlabelledText], folder: pathlib.Path) -> np.ndarray:
        """As `scores`, in chunks that process 0 keeps in a folder; those found there are not asked.

        All processes that ask the teacher call it.
        """
        parts = []
        for start in range(0, len(texts), _CHUNK):
            part = folder / f"{self.task}-{start:06d}.npy"
            chunk = texts[start : start + _CHUNK]
            if not part.exists():
                progress = f"label {self.task} {start + len(chunk)}/{len(texts)}"
                on_process_zero(_save)(part, self.scores(chunk, progress=progress))
            parts.append(np.load(part))
        return np.concatenate(parts)

    def offsets(self, pool_scores: np.ndarray, prior: Sequence[float] | None) -> np.ndarray:
        """Calibration offsets [draws, labels] from scores on pool texts [texts, draws, labels]."""
        return fit_offsets(pool_scores, self.prior(prior))

    def prior(self, shares: Sequence[float] | None) -> np.ndarray:
        """The class prior [labels] that some shares stand for; uniform for None.

        Raises:
          ValueError: If there is not one positive share per label.
        """
        prior = np.asarray(shares or [1 / len(self.labels)] * len(self.labels), np.float64)
        if prior.shape != (len(self.labels),) or (prior <= 0).any():
            raise ValueError(
                f"annotate.priors.{self.task}={shares} must give a positive share for each of"
                f" {list(self.labels)}."
            )
        return prior / prior.sum()

    def annotations(
        self, texts: Sequence[UnlabelledText], scores: np.ndarray, offsets: np.ndarray
    ) -> list[Annotation]:
        """Calibrated, ensembled opinions, one per text."""
        logprobs = ensemble(scores, offsets)
        return [
            Annotation(
                self.task,
                text.id,
                self.labels[int(row.argmax())],
                tuple(float(value) for value in row),
            )
            for text, row in zip(texts, logprobs, strict=True)
        ]


def _save(path: pathlib.Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npy")
    np.save(temporary, array)
    temporary.rename(path)
