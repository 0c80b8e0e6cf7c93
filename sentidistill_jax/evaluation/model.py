"""What the evaluator asks of a model, so that anything that answers prompts can be scored."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class Completion:
    """What a model wrote after a prompt, without special tokens."""

    text: str
    finished: bool | None  # False: the budget ended it; None: the model does not tell


class Model(Protocol):
    """A model that can be asked the prompts of SentiBench."""

    def prompt_lengths(self, prompts: Sequence[str]) -> list[int] | None:
        """Tokens of each prompt as the model reads it; None if it does not tell."""
        ...

    def label_logprobs(
        self, prompts: Sequence[str], label_words: Sequence[str], *, progress: str | None = None
    ) -> Float[np.ndarray, "prompts labels"]:
        """Scores of the first token of each label word (with its leading space) as the next token.

        Raises:
          ValueError: If two label words begin with the same token.
        """
        ...

    def complete(
        self, prompts: Sequence[str], max_new_tokens: int, *, progress: str | None = None
    ) -> list[Completion]:
        """Greedy continuations; a model may end one as soon as `extract.is_complete` says so."""
        ...


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """A server's model, of which no tokens are known.

    Args:
      client: Has `label_logprobs` as `Model` has it, and `complete(prompts, max_new_tokens=...,
        stop=..., progress=...)` that returns texts, each up to the first stop text.
    """

    client: Any

    def prompt_lengths(self, prompts: Sequence[str]) -> None:
        """None: the server refuses or cuts what it has no room for."""
        del prompts

    def label_logprobs(
        self, prompts: Sequence[str], label_words: Sequence[str], *, progress: str | None = None
    ) -> Float[np.ndarray, "prompts labels"]:
        """See `Model`."""
        return self.client.label_logprobs(prompts, label_words, progress=progress)

    def complete(
        self, prompts: Sequence[str], max_new_tokens: int, *, progress: str | None = None
    ) -> list[Completion]:
        """See `Model`. A newline is no stop text: an answer may follow on the second line."""
        texts = self.client.complete(
            prompts, max_new_tokens=max_new_tokens, stop=("Sentence:",), progress=progress
        )
        return [Completion(text, None) for text in texts]
