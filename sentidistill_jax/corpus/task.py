"""What an ICLDist task is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sentidistill_jax.corpus.items import Field, Items
from sentidistill_jax.corpus.user_texts import UnlabelledText

OutputFormat = Literal["plain", "json", "tuples", "dict", "letter"]


@dataclass(frozen=True)
class Demonstration:
    """A solved example inside a prompt."""

    text: str
    label: str | Items  # one of the task's labels, a free text, or tuples of the task's fields
    subject: str = ""  # what is asked about the text, in tasks that have a subject


def demonstrations(label: str, *texts: str) -> tuple[Demonstration, ...]:
    """Demonstrations of one label."""
    return tuple(Demonstration(text, label) for text in texts)


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
    label_name: str  # what is asked for, e.g. "Sentiment"; also the key in JSON, dict and tuples
    wordings: tuple[Wording, ...]
    # One word per label, in one order. The words of a verbalizer start with different tokens.
    verbalizers: tuple[tuple[str, ...], ...] = ((),)
    fields: tuple[Field, ...] = ()  # of the tuples that an answer lists; () in other tasks
    formats: tuple[OutputFormat, ...] = ("plain", "json", "tuples", "dict", "letter")
    seeds: tuple[Demonstration, ...] = ()  # handwritten demonstrations
    # The right answer where it can be computed; None for a text to which the task does not apply.
    gold: Callable[[UnlabelledText], str | None] | None = None
    # What is asked about a text, such as a target; None for a text that has no such thing. It
    # stands on a line named `subject_name` below the text.
    subject: Callable[[UnlabelledText], str | None] | None = None
    subject_name: str = ""
    max_new_tokens: int = 0  # budget of an answer that the teacher writes; 0: the settings' own

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes; () where the answer is free text or a list of tuples."""
        return self.verbalizers[0]

    def applies_to(self, text: UnlabelledText) -> bool:
        """Whether the text has an answer and a subject, as far as the task computes them."""
        computed = (self.gold, self.subject)
        return all(part is None or part(text) is not None for part in computed)
