"""The teacher's own labels for user texts: few-shot, calibrated, ensembled over demonstrations.

A small teacher knows more about sentiment than its argmax shows: each prompt shifts all its label
scores one way. The shift is estimated on unlabelled texts, so no human label is needed.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from sentidistill_jax.corpus import icldist
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.distributed import on_process_zero
from sentidistill_jax.errors import storage_errors
from sentidistill_jax.language_model import LanguageModel

_CHUNK = 256  # texts between two saves
_ITERATIONS = 200  # of a fit, at most


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

    @storage_errors()
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
                on_process_zero(save_array)(part, self.scores(chunk, progress=progress))
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


def _log_normalise(logprobs: np.ndarray) -> np.ndarray:
    return logprobs - np.logaddexp.reduce(logprobs, axis=-1, keepdims=True)


def fit_offset(logprobs: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """The offset under which the average prediction over a pool equals the class prior.

    Args:
      logprobs: Label scores on pool texts, [texts, labels].
      prior: Expected share of each label in the pool, [labels]; sums to 1.

    Returns:
      What to add to the scores, [labels].

    Source: matching the average prediction and the prior follows Saerens et al. 2002 (prior
    correction); contextual calibration (arXiv:2102.09690) divides by one content-free input.
    """
    offset = np.zeros(logprobs.shape[-1])
    for _ in range(_ITERATIONS):
        mean = np.exp(_log_normalise(logprobs + offset)).mean(axis=0)
        step = np.log(prior) - np.log(mean)
        offset += step
        if np.abs(step).max() < 1e-6:
            break
    return offset - offset.mean()


def fit_offsets(logprobs: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """An offset for every demonstration draw, [draws, labels], from [texts, draws, labels]."""
    return np.stack([fit_offset(logprobs[:, draw], prior) for draw in range(logprobs.shape[1])])


def ensemble(logprobs: np.ndarray, offsets: np.ndarray | None) -> np.ndarray:
    """Normalised label logprobs averaged over draws in log space.

    Args:
      logprobs: Label scores, [texts, draws, labels].
      offsets: From `fit_offsets`, [draws, labels]; None leaves the label bias in.

    Returns:
      Logprobs over the labels, [texts, labels].
    """
    shifted = logprobs if offsets is None else logprobs + offsets
    return _log_normalise(shifted.mean(axis=1)).astype(np.float32)


def save_array(path: pathlib.Path, array: np.ndarray) -> None:
    """Writes a .npy file that appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npy")
    np.save(temporary, array)
    temporary.rename(path)
