"""What a user text is to the rest of the project.

Human labels are for evaluation only. They live in `UserText`; everything that makes prompts takes
`UnlabelledText`, which has no field for them.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sentidistill_jax.corpus.raw_text import HumanLabel, Split
from sentidistill_jax.corpus.sources import REVIEW_SOURCES, REVIEWS


@dataclass(frozen=True)
class UnlabelledText:
    """A user text as distillation sees it."""

    id: str
    source: str
    text: str


@dataclass(frozen=True)
class UserText:
    """A cleaned user text with what people said about it."""

    id: str  # hash of the normalised text
    source: str
    text: str
    split: Split
    human_label: HumanLabel | None = None
    rating: float | None = None  # mean human rating in [-4, 4]; None where the source has none
    source_id: str = ""  # as its source names it, where it does

    def without_label(self) -> UnlabelledText:
        """The text without everything that people said about it."""
        return UnlabelledText(self.id, self.source, self.text)


def training_texts(texts: Iterable[UserText]) -> list[UnlabelledText]:
    """The training side, stripped of human labels."""
    return [text.without_label() for text in texts if text.split == "train"]


def two_class_sets(texts: Iterable[UserText]) -> dict[str, list[UserText]]:
    """Held-out texts that people call positive or negative, by the set that they are scored in.

    Movie and Amazon snippets form the set `reviews`; every other source is a set of its own name.
    """
    sets: dict[str, list[UserText]] = defaultdict(list)
    for text in texts:
        if text.split == "held_out" and text.human_label in ("positive", "negative"):
            sets[REVIEWS if text.source in REVIEW_SOURCES else text.source].append(text)
    return dict(sets)
