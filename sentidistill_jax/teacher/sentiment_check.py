"""Whether rewritten texts have the sentiment that was asked for, by the teacher's own scores."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from sentidistill_jax.corpus.perspectives import PERSPECTIVES
from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.teacher.annotate import Annotator, ensemble
from sentidistill_jax.teacher.answers import Annotations
from sentidistill_jax.teacher.filters import rewrite_agrees

WRONG_SENTIMENT = "wrong_sentiment"  # the reason why a rewritten text is not learnt


@dataclasses.dataclass(frozen=True)
class SentimentCheck:
    """Scores rewritten texts as the user texts were scored, and compares."""

    annotator: Annotator  # of the task `sentiment`
    offsets: np.ndarray  # its calibration, [draws, labels]
    annotations: Annotations  # of the user texts

    def applies_to(self, prompt: Prompt) -> bool:
        """Whether a prompt asks for a text of a certain sentiment, given what its own one is."""
        perspective = PERSPECTIVES.get(prompt.kind)
        asked = perspective is not None and perspective.sentiment is not None
        return asked and ("sentiment", prompt.text_id) in self.annotations

    def agree(
        self, prompts: Sequence[Prompt], rewritten: Sequence[str], *, progress: str | None = None
    ) -> list[bool]:
        """Whether each rewritten text has the sentiment that its prompt asks for.

        Args:
          prompts: Those that the check applies to.
          rewritten: What the teacher wrote.
          progress: Name of a progress bar; none without.
        """
        if not prompts:
            return []
        texts = [
            UnlabelledText(prompt.text_id, "rewritten", " ".join(text.split()))
            for prompt, text in zip(prompts, rewritten, strict=True)
        ]
        scores = ensemble(self.annotator.scores(texts, progress=progress), self.offsets)
        return [
            rewrite_agrees(
                prompt.kind, self.annotations["sentiment", prompt.text_id].logprobs, after.tolist()
            )
            for prompt, after in zip(prompts, scores, strict=True)
        ]
