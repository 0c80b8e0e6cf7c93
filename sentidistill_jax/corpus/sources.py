"""Where user texts come from: embedded sources by name, and a user's own, as a config gives them.

An own source is a mapping with the fields of `Source`, or the same in one word:
`NAME=PATH#COLUMN#label=stars#labels=five_stars#max=20000`, of which all but PATH may be left out.
"""

import glob
import pathlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, get_args

from sentidistill_jax.corpus import rows
from sentidistill_jax.corpus.embedded_sources import EMBEDDED_SOURCES, read_embedded
from sentidistill_jax.corpus.raw_text import HumanLabel, RawText, Split

# Reviews: the embedded sources on which the two-class headline is measured, as one set.
REVIEW_SOURCES = ("movie", "amazon")
REVIEWS = "reviews"

# How values of a label column are read, by name; a source may also bring a mapping of its own.
LABEL_MAPS: dict[str, dict[str, HumanLabel]] = {
    "words": {
        "positive": "positive", "pos": "positive", "negative": "negative", "neg": "negative",
        "neutral": "neutral",
    },
    "five_stars": {
        "1": "negative", "2": "negative", "3": "neutral", "4": "positive", "5": "positive",
    },
}  # fmt: skip
_SIDES: dict[str, Split] = {"all": "held_out", "none": "train"}
_TFDS = "tfds:"
# What may stand before the path; a path itself may hold "=" in a folder's name.
_NAMED = re.compile(r"([\w.-]+)=(.+)")


@dataclass(frozen=True)
class Source:
    """A source of user texts; fields other than `path` and `name` are of own sources alone."""

    path: str  # a file, several as a glob, a folder of Arrow files, or tfds:NAME/SPLIT
    name: str = ""  # "": that of the file
    text: str = "text"  # column of the texts
    label: str = ""  # column of people's labels; "": there are none
    labels: Mapping[str, str] | str = "words"  # value -> positive, negative or neutral, or a name
    id: str = ""  # column of the user's own ids; "": there are none
    max: int = 0  # most texts to distil from; 0: all, or as texts.max_per_source says
    # Which texts are held out: by the "hash" of the text, "all" or "none", or those whose COLUMN
    # has a VALUE: COLUMN:VALUE.
    held_out: str = "hash"
    label_map: Mapping[str, HumanLabel] = field(init=False, repr=False)

    def __post_init__(self):
        known = set(get_args(HumanLabel))
        given = LABEL_MAPS.get(self.labels) if isinstance(self.labels, str) else self.labels
        if given is None or not set(given.values()) <= known:
            raise ValueError(
                f"source {self.path!r} has labels={self.labels!r}; expected one of"
                f" {', '.join(LABEL_MAPS)}, or a mapping to {', '.join(sorted(known))}."
            )
        if ":" not in self.held_out and self.held_out not in ("hash", "all", "none"):
            raise ValueError(
                f"source {self.path!r} has held_out={self.held_out!r}; expected hash, all, none or"
                " COLUMN:VALUE."
            )
        map_of = {_as_word(value): label for value, label in given.items()}
        object.__setattr__(self, "label_map", map_of)

    @property
    def embedded(self) -> bool:
        """Whether it is one of the project's own."""
        return self.path in EMBEDDED_SOURCES


@dataclass
class Tally:
    """What was found wrong with the rows of a source."""

    dropped: Counter[str] = field(default_factory=Counter)  # reason -> rows that are not used
    unknown_labels: Counter[str] = field(default_factory=Counter)  # value -> rows; the texts stay


def parse_sources(entries: Sequence[str | Mapping[str, Any]]) -> list[Source]:
    """The sources that a config gives, each under a name of its own.

    Raises:
      ValueError: If an entry has a field that no source has, a field has no such value, or it names
        neither an embedded source nor files of a known kind.
    """
    sources = [_parse(entry) for entry in entries]
    taken = {*EMBEDDED_SOURCES}
    if any(source.path in REVIEW_SOURCES for source in sources):
        taken.add(REVIEWS)  # a held-out set of that name is theirs
    named = []
    for source in sources:
        name = source.path if source.embedded else _unique(source.name or _stem(source), taken)
        taken.add(name)
        named.append(replace(source, name=name))
    return named


def _parse(entry: str | Mapping[str, Any]) -> Source:
    if isinstance(entry, str):
        path, *parts = entry.split("#")
        named = _NAMED.fullmatch(path)
        values: dict[str, Any] = {"name": named[1], "path": named[2]} if named else {"path": path}
        for part in filter(None, parts):
            key, given, value = part.partition("=")
            values[key if given else "text"] = value if given else key
    else:
        values = dict(entry)
    known = [item.name for item in fields(Source) if item.init]
    unknown = [key for key in values if key not in known]
    if unknown or "path" not in values:
        raise ValueError(
            f"source {entry!r} has {unknown or 'no path'}; its fields are {', '.join(known)}."
        )
    try:
        values["max"] = int(values.get("max", 0))
    except ValueError:
        raise ValueError(f"source {entry!r} has max={values['max']!r}; it is a number.") from None
    source = Source(**values)
    if not source.embedded and not source.path.startswith(_TFDS):
        _check_kind(source.path)
    return source


def _check_kind(path: str) -> None:
    if not pathlib.Path(path).is_dir() and rows.suffix_of(pathlib.Path(path)) not in rows.FORMATS:
        raise ValueError(
            f"source {path!r} is not known; expected {', '.join(EMBEDDED_SOURCES)}, a file"
            f" ({', '.join(rows.FORMATS)}; NAME=PATH#COLUMN), a Hugging Face folder or"
            " tfds:NAME/SPLIT; several are written \"('movie','my.csv#body')\"."
        )


def _stem(source: Source) -> str:
    """The name of a file without its endings, or of the folder of a glob or of a data set."""
    path = pathlib.PurePath(source.path.removeprefix(_TFDS))
    if source.path.startswith(_TFDS):
        return path.parts[0] if not path.is_absolute() else path.parent.name
    stem = re.sub(r"[*?\[\]]", "", path.name.split(".")[0]).strip("-_")
    return stem or path.parent.name or "texts"


def _unique(name: str, taken: set[str]) -> str:
    """The name, with a number where another source has it."""
    number, free = 2, name
    while free in taken:
        number, free = number + 1, f"{name}-{number}"
    return free


def read_source(source: Source, folder: pathlib.Path, tally: Tally) -> Iterator[RawText]:
    """Reads the texts of a source, one after the other.

    Args:
      source: One of `parse_sources`.
      folder: Where the archives of the embedded sources lie.
      tally: Counts, while the texts are read, the rows that cannot be used.

    Raises:
      ValueError: If a file cannot be parsed or lacks a column.
      FileNotFoundError: If there is no such file.
    """
    if source.embedded:
        yield from read_embedded(source.path, folder, tally.dropped)
        return
    column, is_column, value = source.held_out.partition(":")
    split_column = column if is_column else ""
    columns = (source.text, source.label, source.id, split_column)
    for row in _rows(source, list(dict.fromkeys(filter(None, columns)))):
        text = row.get(source.text)
        if not isinstance(text, str) or not text.strip():
            tally.dropped["no_text"] += 1
            continue
        split = _SIDES.get(source.held_out)
        if split_column:
            is_held_out = _as_word(row.get(split_column)) == _as_word(value)
            split = "held_out" if is_held_out else "train"
        own_id = row.get(source.id)
        yield RawText(
            text,
            _label_of(source, row.get(source.label), tally),
            id="" if own_id is None else str(own_id),
            split=split,
        )


def _label_of(source: Source, value: Any, tally: Tally) -> HumanLabel | None:
    if value in (None, ""):
        return None
    label = source.label_map.get(_as_word(value))
    if label is None:
        tally.unknown_labels[str(value)] += 1
    return label


def _as_word(value: Any) -> str:
    """A value of a table as it is compared: 4, 4.0 and "4" are one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().casefold()


def _rows(source: Source, columns: list[str]) -> Iterator[rows.Row]:
    if source.path.startswith(_TFDS):
        yield from rows.read_tfds(source.path.removeprefix(_TFDS), columns)
        return
    is_folder = pathlib.Path(source.path).is_dir()
    pattern = f"{source.path}/*.arrow" if is_folder else source.path
    paths = [pathlib.Path(path) for path in sorted(glob.glob(pattern))]
    if not paths:
        raise FileNotFoundError(f"No user texts at {pattern}; correct the path.")
    for path in paths:
        yield from rows.read_rows(path, columns)
