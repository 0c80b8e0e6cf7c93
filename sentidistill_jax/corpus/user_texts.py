"""User texts: read, cleaned, deduplicated and split by the hash of the text.

Human labels are for evaluation only. They live in `UserText`; everything that makes prompts takes
`UnlabelledText`, which has no field for them.
"""

import pathlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from sentidistill_jax.corpus.cleaning import clean, shorten, text_hash, words
from sentidistill_jax.corpus.sources import EMBEDDED_SOURCES, HumanLabel, read_source

Split = Literal["train", "held_out"]
LongTexts = Literal["drop", "truncate"]

DEFAULT_FOLDER = pathlib.Path(".cache/texts")
# Reviews: the sources on which the two-class headline is measured.
REVIEW_SOURCES = ("movie", "amazon")


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

    def without_label(self) -> UnlabelledText:
        """The text without everything that people said about it."""
        return UnlabelledText(self.id, self.source, self.text)


@dataclass(frozen=True)
class UserTexts:
    """All texts, sorted by id; per source how many were read, kept and dropped for which reason."""

    texts: list[UserText]
    counts: dict[str, dict[str, int]]
    truncated: dict[str, int]  # source -> texts that were shortened, before duplicates went

    def summary(self) -> str:
        """A line per source: texts read, kept, shortened, and dropped by reason."""
        lines = []
        for source, count in self.counts.items():
            dropped = [
                f"{number} {reason.replace('_', ' ')}"
                for reason, number in count.items()
                if reason not in ("read", "kept")
            ]
            line = f"  {source}: {count['kept']} of {count['read']} texts kept"
            if self.truncated[source]:
                line += f" ({self.truncated[source]} shortened)"
            lines.append(f"{line}; dropped: {', '.join(dropped) or 'none'}")
        return "\n".join(lines)


def load_user_texts(
    sources: Sequence[str] = EMBEDDED_SOURCES,
    folder: pathlib.Path = DEFAULT_FOLDER,
    *,
    held_out_fraction: float = 0.2,
    min_words: int = 3,
    max_words: int = 100,
    long_texts: LongTexts = "drop",
) -> UserTexts:
    """Reads, cleans, deduplicates and splits the texts of all sources.

    Args:
      sources: Names or paths, see `sources.read_source`. Of equal texts the first source's is kept;
        its label is kept only if no other copy contradicts it.
      folder: Where the archives of the embedded sources lie.
      held_out_fraction: Expected share of held-out texts. A text's side depends on its hash alone.
      min_words: Shorter texts are dropped; mentions and links are no words.
      max_words: Most words of a text; 0 sets no limit.
      long_texts: Whether longer texts are dropped, or shortened to their first sentences (see
        `cleaning.shorten`). A shortened text is named, compared and split by what is left of it.

    Returns:
      The texts and the counts. For each source, `read` is the sum of `kept` and of all reasons for
      dropping: `damaged_encoding`, `overwritten_words`, `too_short`, `too_long`, `duplicate`.

    Raises:
      ValueError: If `held_out_fraction` or `long_texts` is out of its range.
    """
    if long_texts not in get_args(LongTexts):
        raise ValueError(f"long_texts={long_texts!r} must be one of {get_args(LongTexts)}.")
    if not 0 < held_out_fraction < 1:
        raise ValueError(f"held_out_fraction={held_out_fraction} must lie between 0 and 1.")
    kept: dict[str, UserText] = {}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    truncated: Counter[str] = Counter()
    for name in sources:
        source = read_source(name, folder)
        count = counts[source.name]
        count.update(source.damaged)
        for raw in source.texts:
            text = clean(raw.text)
            length = len(words(text))
            too_long = 0 < max_words < length
            if too_long and long_texts == "truncate":
                text, too_long = shorten(text, max_words), False
                truncated[source.name] += 1
            key = text_hash(text)
            if length < min_words:
                count["too_short"] += 1
            elif too_long:
                count["too_long"] += 1
            elif key in kept:
                count["duplicate"] += 1
                kept[key] = _merged(kept[key], raw.human_label)
            else:
                split = _split_of(key, held_out_fraction)
                kept[key] = UserText(key, source.name, text, split, raw.human_label, raw.rating)
    survivors = Counter(text.source for text in kept.values())
    return UserTexts(
        [kept[key] for key in sorted(kept)],
        {
            name: {"read": survivors[name] + count.total(), "kept": survivors[name], **count}
            for name, count in counts.items()
        },
        {name: truncated[name] for name in counts},
    )


def _split_of(text_id: str, held_out_fraction: float) -> Split:
    return "held_out" if int(text_id[:16], 16) < held_out_fraction * 2**64 else "train"


def _merged(first: UserText, label: HumanLabel | None) -> UserText:
    """The first of two equal texts, without its label where people contradict each other."""
    if label is None or label == first.human_label:
        return first
    return replace(first, human_label=None, rating=None)


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
            sets["reviews" if text.source in REVIEW_SOURCES else text.source].append(text)
    return dict(sets)
