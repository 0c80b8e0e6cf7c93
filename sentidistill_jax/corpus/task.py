"""What an ICLDist task is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sentidistill_jax.corpus.user_texts import UnlabelledText

OutputFormat = Literal["plain", "json", "tuples", "letter"]


@dataclass(frozen=True)
class Demonstration:
    """A solved example inside a prompt."""

    text: str
    label: str  # one of the task's labels, or the answer of a free-text task


@dataclass(frozen=True)
class Wording:
    """How a task is put: `instruction` may hold `{options}`, the label words joined by "or"."""

    instruction: str  # "" asks by the shape of the prompt alone
    text_name: str = "Text"
    label_name: str = ""  # name of the line that the answer stands on; "" takes the task's


@dataclass(frozen=True)
class Task:
    """A task that is shown in a prompt by demonstrations.

    Its first wording has no instruction and its first verbalizer holds the labels themselves.
    """

    name: str
    label_name: str  # what is asked for, e.g. "Sentiment"; also the key in JSON and tuples
    wordings: tuple[Wording, ...]
    # One word per label, in one order. The words of a verbalizer start with different tokens.
    verbalizers: tuple[tuple[str, ...], ...] = ((),)
    formats: tuple[OutputFormat, ...] = ("plain", "json", "tuples", "letter")
    seeds: tuple[Demonstration, ...] = ()  # handwritten demonstrations
    # The right answer where it can be computed; None for a text to which the task does not apply.
    gold: Callable[[UnlabelledText], str | None] | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes; () where the answer is free text."""
        return self.verbalizers[0]
