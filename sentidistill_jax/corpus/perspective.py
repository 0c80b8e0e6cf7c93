"""What a KnowDist perspective is."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["positive", "negative", "neutral"]


@dataclass(frozen=True)
class WorkedExample:
    """A text, the sentiment it has, and a good answer on one line."""

    verdict: Verdict
    text: str
    answer: str


@dataclass(frozen=True)
class Perspective:
    """One way of looking at the sentiment of a text."""

    name: str  # "analyse/..." or "rewrite/..."
    answer_name: str  # name of the line that the completion stands on
    wordings: tuple[str, ...]
    examples: tuple[WorkedExample, ...]
    # What a rewriting does to the sentiment, so that its outcome can be checked; None: analyses.
    sentiment: Literal["same", "opposite"] | None = None
    # Whether a teacher that answers without demonstrations may take several lines.
    multi_line: bool = True
    # Budget of an answer in the manner of the examples; 0: what the generation settings say.
    max_new_tokens: int = 0
