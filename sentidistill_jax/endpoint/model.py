"""A served model that is evaluated or labels texts: completes prompts, scores label words."""

from collections.abc import Sequence

import numpy as np

from sentidistill_jax.endpoint.client import Endpoint
from sentidistill_jax.endpoint.journal import Journal
from sentidistill_jax.endpoint.labels import LabelScores, score_answers
from sentidistill_jax.endpoint.protocol import Answer, Request
from sentidistill_jax.endpoint.settings import EndpointSettings

_LABEL_TOKENS = 8  # enough to name a label where the server gives no logprobs


class EndpointModel:
    """Two abilities, no weights: nothing of JAX is needed.

    Args:
      settings: The server.
      journal: Keeps its answers, so that an interrupted run asks only what is missing; by default
        they last as long as this object.
    """

    def __init__(self, settings: EndpointSettings, journal: Journal | None = None):
        self.settings = settings
        self._endpoint = Endpoint(settings, Journal() if journal is None else journal)

    @property
    def name(self) -> str:
        """The model as it is asked for."""
        return self._endpoint.model

    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Sequence[str] = ("\n",),
        progress: str | None = None,
    ) -> list[str]:
        """Greedy continuations, each up to the first stop text, which is not part of it.

        Args:
          prompts: A user's message each where the API is chat.
          max_new_tokens: Of the server's tokenizer.
          stop: At most four texts (a limit of OpenAI's).
          progress: Name of a progress bar; none without.

        Raises:
          EndpointError: If the server does not answer.
        """
        requests = [Request(prompt, max_new_tokens, stop=tuple(stop)) for prompt in prompts]
        answers = self._endpoint.answers(requests, progress=progress)
        return [_until(answer, stop) for answer in answers]

    def label_scores(
        self, prompts: Sequence[str], label_words: Sequence[str], *, progress: str | None = None
    ) -> LabelScores:
        """Scores every label word as the next word of every prompt; see `score_answers`.

        Args:
          prompts: Texts that end right before the answer.
          label_words: With the leading space where the prompt ends without one.
          progress: Name of a progress bar; none without.

        Raises:
          EndpointError: If the server does not answer.
          ValueError: If a label word is empty or begins another one.
        """
        exact = self.settings.api == "completions"
        score_answers([], label_words, exact=exact)  # refuses bad words before anything is asked
        # Without a stop: some servers list nothing for a token that ends the answer.
        requests = [Request(prompt, _LABEL_TOKENS) for prompt in prompts]
        answers = self._endpoint.answers(requests, progress=progress)
        return score_answers(answers, label_words, exact=exact)

    def label_logprobs(
        self, prompts: Sequence[str], label_words: Sequence[str], *, progress: str | None = None
    ) -> np.ndarray:
        """As `label_scores`, logprobs alone: float32 [prompts, labels]."""
        return self.label_scores(prompts, label_words, progress=progress).logprobs


def _until(answer: Answer, stop: Sequence[str]) -> str:
    """The text before the first stop: some servers leave it in."""
    ends = [answer.text.find(text) for text in stop]
    return answer.text[: min((end for end in ends if end >= 0), default=None)]
