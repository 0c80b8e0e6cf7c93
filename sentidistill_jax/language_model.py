"""The one interface to a model that answers: loaded onto devices, or behind a server."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class Completion:
    """Text that a model wrote after a prompt, without special tokens."""

    text: str
    finished: bool | None  # False: the budget ended it; None: the model does not tell


@dataclasses.dataclass(frozen=True)
class AnswerSettings:
    """How a loaded model reads prompts and answers greedily; a server has settings of its own."""

    chat_template: bool = False  # a prompt becomes a user's message
    left_truncate_to: int | None = None  # tokens; the end of a longer prompt is read
    repetition_penalty: float | None = None  # None: as its generation_config.json says
    clean_up_spaces: bool | None = None  # when decoding; None: as its tokenizer says


class LanguageModel(Protocol):
    """A model that continues prompts and scores label words: all that its callers know of it."""

    @property
    def name(self) -> str:
        """Name of the model for people: where it was loaded from, or what a server calls it."""
        ...

    @property
    def origin(self) -> Mapping[str, Any]:
        """Identity of the model for scores.json: its weights, or what its server was asked for."""
        ...

    @property
    def decoding(self) -> Mapping[str, Any]:
        """Settings of greedy decoding and where each is from; {} where a server decides them."""
        ...

    @property
    def max_position(self) -> int | None:
        """Tokens that it has room for, its own included; None if it does not tell."""
        ...

    def with_settings(self, settings: AnswerSettings) -> Self:
        """The same model under other settings; a server's stays as it is.

        Raises:
          ValueError: If the model cannot be asked so.
        """
        ...

    def prompt_lengths(self, prompts: Sequence[str]) -> list[int] | None:
        """Tokens of each prompt as the model reads it; None if it does not tell."""
        ...

    def label_logprobs(
        self, prompts: Sequence[str], label_words: Sequence[str], *, progress: str | None = None
    ) -> Float[np.ndarray, "prompts labels"]:
        """Logprobs of the first token of each label word as the next token of each prompt.

        Args:
          prompts: Texts that end right before the answer.
          label_words: With the leading space where the prompt ends without one.
          progress: Name of a progress bar; none without.

        Raises:
          ValueError: If a word is empty, or two begin with the same token.
        """
        ...

    def complete(
        self,
        prompts: Sequence[str],
        max_new_tokens: int,
        *,
        stop: Sequence[str] = (),
        is_complete: Callable[[str], bool] | None = None,
        progress: str | None = None,
    ) -> list[Completion]:
        """Greedy continuations, in the order of the prompts.

        Args:
          prompts: A user's message each where the model is a chat.
          max_new_tokens: Tokens of an answer at most, in the model's own tokenizer.
          stop: Texts at which an answer ends; they are not part of it. A server takes at most four.
          is_complete: Whether an answer so far says all. A model that can look at answers while it
            writes ends one as soon as this holds, whatever `stop` says; a server knows only that.
          progress: Name of a progress bar; none without.
        """
        ...


def before(text: str, stop: Sequence[str]) -> str:
    """The text up to the first stop, which is not part of it."""
    ends = [text.find(end) for end in stop]
    return text[: min((end for end in ends if end >= 0), default=None)]
