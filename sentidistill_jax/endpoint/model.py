"""A served model that answers prompts, over HTTP: no weights, and nothing of JAX is needed."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sentidistill_jax.endpoint.client import Endpoint
from sentidistill_jax.endpoint.journal import Journal
from sentidistill_jax.endpoint.labels import LabelScores, score_answers
from sentidistill_jax.endpoint.protocol import Request
from sentidistill_jax.endpoint.settings import EndpointSettings
from sentidistill_jax.language_model import AnswerSettings, Completion, before

_LABEL_TOKENS = 8  # enough to name a label where the server gives no logprobs


class EndpointModel:
    """A `LanguageModel` behind a server, which applies templates and penalties of its own.

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

    @property
    def origin(self) -> dict[str, Any]:
        """What decides the server's answers, and the model's name."""
        return {"endpoint": self.settings.identity() | {"model": self.name}}

    @property
    def decoding(self) -> dict[str, Any]:
        """{}: the server decides."""
        return {}

    @property
    def max_position(self) -> None:
        """None: the server refuses or cuts what it has no room for."""

    def with_settings(self, settings: AnswerSettings) -> "EndpointModel":
        """The model as it is: the server's settings are its own."""
        del settings
        return self

    def prompt_lengths(self, prompts: Sequence[str]) -> None:
        """None: no tokens are known."""
        del prompts

    def label_logprobs(
        self, prompts: Sequence[str], label_words: Sequence[str], *, progress: str | None = None
    ) -> np.ndarray:
        """Logprobs of `label_scores` alone: float32 [prompts, labels]."""
        return self.label_scores(prompts, label_words, progress=progress).logprobs

    def label_scores(
        self, prompts: Sequence[str], label_words: Sequence[str], *, progress: str | None = None
    ) -> LabelScores:
        """Scores of every label word as the next word of every prompt; see `score_answers`.

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

    def complete(
        self,
        prompts: Sequence[str],
        max_new_tokens: int,
        *,
        stop: Sequence[str] = (),
        is_complete: Callable[[str], bool] | None = None,
        progress: str | None = None,
    ) -> list[Completion]:
        """Greedy continuations, each up to the first stop text; see `LanguageModel`.

        Raises:
          EndpointError: If the server does not answer.
        """
        del is_complete  # an answer comes whole
        requests = [Request(prompt, max_new_tokens, stop=tuple(stop)) for prompt in prompts]
        answers = self._endpoint.answers(requests, progress=progress)
        # Some servers leave the stop text in.
        return [Completion(before(answer.text, stop), None) for answer in answers]
