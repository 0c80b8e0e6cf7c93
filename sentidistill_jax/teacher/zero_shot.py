"""A model asked for the sentiment of texts without a demonstration."""

from collections.abc import Callable, Sequence

import numpy as np

from sentidistill_jax.corpus.icldist import build_prompt
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.language_model import LanguageModel
from sentidistill_jax.teacher.annotate import ensemble, fit_offsets

# Label logprobs [texts, labels] of the binary sentiment task.
ScoreTexts = Callable[[Sequence[UnlabelledText]], np.ndarray]


def zero_shot(model: LanguageModel, name: str) -> ScoreTexts:
    """A model asked "Review: ... Sentiment:", without demonstrations or calibration."""

    def score(texts: Sequence[UnlabelledText]) -> np.ndarray:
        prompts = [build_prompt("sentiment", text, ()) for text in texts]
        words = prompts[0].label_words
        return model.label_logprobs([p.prompt for p in prompts], words, progress=f"evaluate {name}")

    return score


def without_bias(score: ScoreTexts, pool: Sequence[UnlabelledText]) -> ScoreTexts:
    """Scores shifted so that over a pool of texts all labels are as likely on average."""
    by_draw = score(pool)[:, None]
    num_labels = by_draw.shape[-1]
    offsets = fit_offsets(by_draw, np.full(num_labels, 1 / num_labels))
    return lambda texts: ensemble(score(texts)[:, None], offsets)
