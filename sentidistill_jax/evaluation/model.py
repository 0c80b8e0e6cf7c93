"""What the evaluator asks of a model, so that anything that answers prompts can be scored."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class Completion:
    """What a model wrote after a prompt, without special tokens."""

    text: str
    finished: bool  # False: the budget ended it


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
