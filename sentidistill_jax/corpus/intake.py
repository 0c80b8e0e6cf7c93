"""User texts on their way in: read as a stream, cleaned, deduplicated, split and bounded."""

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from tqdm import tqdm

from sentidistill_jax.corpus.cleaning import clean, shorten, text_hash, words
from sentidistill_jax.corpus.embedded_sources import EMBEDDED_SOURCES
from sentidistill_jax.corpus.raw_text import HumanLabel, Split
from sentidistill_jax.corpus.sampling import cap_sources
from sentidistill_jax.corpus.sources import Source, Tally, parse_sources, read_source
from sentidistill_jax.corpus.user_texts import UserText

LongTexts = Literal["drop", "truncate"]

DEFAULT_FOLDER = pathlib.Path(".cache/texts")
# A source with a cap holds this many training texts at least, since the leakage guard, which comes
# later, drops some.
_RESERVE = 50_000
_MUCH = 0.05  # share of dropped rows that deserves a warning
_OVER_CAP = "over_the_cap"
# What helps against dropping; what is not here is a property of the texts.
_ADVICE = {
    "no_text": "name their column as PATH#COLUMN",
    "too_short": "lower texts.min_words",
    "too_long": "raise texts.max_words or set texts.long_texts to truncate",
}


@dataclass
class SourceCounts:
    """What became of the rows of a source: `read` = `kept` + all that was dropped."""

    kept: int = 0
    truncated: int = 0  # texts that were shortened, before duplicates went
    tally: Tally = field(default_factory=Tally)

    @property
    def read(self) -> int:
        """Rows of the source."""
        return self.kept + self.tally.dropped.total()

    def to_dict(self) -> dict[str, int]:
        """`read`, `kept`, and rows by reason."""
        return {"read": self.read, "kept": self.kept, **self.tally.dropped}

    def summary(self) -> str:
        """Rows read, kept, shortened, and dropped by reason."""
        reasons = [f"{n} {reason.replace('_', ' ')}" for reason, n in self.tally.dropped.items()]
        shortened = f" ({self.truncated} shortened)" if self.truncated else ""
        line = f"{self.kept} of {self.read} texts kept{shortened}"
        return f"{line}; dropped: {', '.join(reasons) or 'none'}"

    def warnings(self) -> list[str]:
        """What a user may not expect: much that was dropped, labels that are not known."""
        found = []
        lost = {reason: n for reason, n in self.tally.dropped.items() if reason != _OVER_CAP}
        if sum(lost.values()) > _MUCH * self.read:
            advice = [_ADVICE[reason] for reason in lost if reason in _ADVICE]
            share = f"{sum(lost.values()) / self.read:.0%} of its rows are not used"
            found.append("; ".join([share, *advice]))
        unknown = self.tally.unknown_labels
        if unknown:
            examples = ", ".join(repr(value) for value, _ in unknown.most_common(5))
            found.append(
                f"{unknown.total()} labels are none of its map's ({examples}); set its `labels`"
            )
        return found


@dataclass(frozen=True)
class UserTexts:
    """All texts, sorted by id, and what became of the rows of each source."""

    texts: list[UserText]
    counts: dict[str, SourceCounts]

    def summary(self) -> str:
        """A line per source, and one per warning."""
        lines = []
        for source, count in self.counts.items():
            lines.append(f"  {source}: {count.summary()}")
            lines += [f"  warning: {source}: {warning}." for warning in count.warnings()]
        return "\n".join(lines)


def load_user_texts(
    sources: Sequence[str | Mapping[str, Any]] = EMBEDDED_SOURCES,
    folder: pathlib.Path = DEFAULT_FOLDER,
    *,
    held_out_fraction: float = 0.2,
    min_words: int = 3,
    max_words: int = 100,
    long_texts: LongTexts = "drop",
    max_per_source: Mapping[str, int] | None = None,
    max_held_out: int = 0,
    key: str = "",
) -> UserTexts:
    """Reads, cleans, deduplicates and splits the texts of all sources.

    What is in memory at a time: a hash of every text, some 100 bytes, and the texts that may be
    kept, of a source with a cap at most four times as many, or twice `_RESERVE`.

    Args:
      sources: As of `sources.parse_sources`. Of equal texts on one side of the split the first
        source's is kept; its label is kept only if no other copy contradicts it.
      folder: Where the archives of the embedded sources lie.
      held_out_fraction: Expected share of held-out texts. A text's side depends on its hash alone,
        unless its source says where it belongs.
      min_words: Shorter texts are dropped; mentions and links are no words.
      max_words: Most words of a text; 0 sets no limit.
      long_texts: Whether longer texts are dropped, or shortened to their first sentences (see
        `cleaning.shorten`). A shortened text is named, compared and split by what is left of it.
      max_per_source: Source -> training texts that will be drawn from it, by `cap_sources` under
        `key`. At least so many are kept, and only if there are very many more, not all.
      max_held_out: Most held-out texts of a source, drawn likewise; 0 keeps all.
      key: Name of the draw.

    Returns:
      The texts and the counts. Reasons for dropping are `no_text`, `too_short`, `too_long`,
      `duplicate`, `over_the_cap`, and those of the embedded sources.

    Raises:
      ValueError: If `held_out_fraction` or `long_texts` is out of its range, or a source is bad.
      FileNotFoundError: If a source is not there.
    """
    if long_texts not in get_args(LongTexts):
        raise ValueError(f"long_texts={long_texts!r} must be one of {get_args(LongTexts)}.")
    if not 0 < held_out_fraction < 1:
        raise ValueError(f"held_out_fraction={held_out_fraction} must lie between 0 and 1.")
    counts: dict[str, SourceCounts] = {}
    drawn: dict[Split, list[_Drawn]] = {"train": [], "held_out": []}
    seen: dict[Split, set[bytes]] = {"train": set(), "held_out": set()}
    for source in parse_sources(sources):
        cap = (max_per_source or {}).get(source.name, 0)
        reserves = {"train": cap and max(2 * cap, _RESERVE), "held_out": max_held_out}
        count = counts[source.name] = SourceCounts()
        dropped = count.tally.dropped
        for side in drawn:
            drawn[side].append(_Drawn(source, reserves[side], key))
        rows = read_source(source, folder, count.tally)
        for raw in tqdm(rows, f"read {source.name}", unit=" texts", leave=False, disable=None):
            text = clean(raw.text)
            length = len(words(text))
            too_long = 0 < max_words < length
            if too_long and long_texts == "truncate":
                text, too_long = shorten(text, max_words), False
                count.truncated += 1
            if length < min_words or too_long:
                dropped["too_long" if too_long else "too_short"] += 1
                continue
            name = text_hash(text)
            side = raw.split or _split_of(name, held_out_fraction)
            digest = bytes.fromhex(name)
            if digest in seen[side]:
                dropped["duplicate"] += 1
                for one in drawn[side]:
                    one.merge(name, raw.human_label)
                continue
            seen[side].add(digest)
            drawn[side][-1].add(
                UserText(name, source.name, text, side, raw.human_label, raw.rating, raw.id)
            )
        for side in drawn:
            drawn[side][-1].trim()
            count.kept += len(drawn[side][-1].texts)
        over = sum(drawn[side][-1].trimmed for side in drawn)
        if over:
            dropped[_OVER_CAP] = over
    texts = [text for side in drawn.values() for one in side for text in one.texts.values()]
    return UserTexts(sorted(texts, key=lambda text: (text.id, text.split)), counts)


class _Drawn:
    """Texts of one source on one side; of many more than a limit, those that a draw would take."""

    def __init__(self, source: Source, limit: int, key: str):
        self.texts: dict[str, UserText] = {}
        self.trimmed = 0
        self._source, self._limit, self._key = source.name, limit, key

    def add(self, text: UserText) -> None:
        self.texts[text.id] = text
        if self._limit and len(self.texts) >= 2 * self._limit:
            self.trim()

    def trim(self) -> None:
        if not 0 < self._limit < len(self.texts):
            return
        candidates = (text.without_label() for text in self.texts.values())
        lowest = cap_sources(candidates, {self._source: self._limit}, key=self._key)
        self.trimmed += len(self.texts) - len(lowest)
        self.texts = {text.id: self.texts[text.id] for text in lowest}

    def merge(self, name: str, label: HumanLabel | None) -> None:
        """Takes the label away from a text that people contradict each other about."""
        text = self.texts.get(name)
        if text is not None and label is not None and label != text.human_label:
            self.texts[name] = replace(text, human_label=None, rating=None)


def _split_of(text_id: str, held_out_fraction: float) -> Split:
    return "held_out" if int(text_id[:16], 16) < held_out_fraction * 2**64 else "train"
