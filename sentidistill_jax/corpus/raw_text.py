"""What a source says of one text."""

from dataclasses import dataclass
from typing import Literal

HumanLabel = Literal["positive", "negative", "neutral"]
Split = Literal["train", "held_out"]


@dataclass(frozen=True)
class RawText:
    """One text as its source gives it."""

    text: str
    human_label: HumanLabel | None = None
    rating: float | None = None  # mean human rating in [-4, 4]
    id: str = ""  # as its source names it
    split: Split | None = None  # as its source says; None leaves it to the hash of the text
