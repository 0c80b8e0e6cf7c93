"""Rows of text files: every good one is found, and a bad one costs itself alone."""

import gzip

import pytest

from sentidistill_jax.text_rows import read_rows

LONG = "x" * 200_000  # more than one CSV field may hold

FILES = {
    "lines.txt": (
        "\ufeffGood film.\r\n\n  Dull.\t\nÜber\n".encode() + b"\xff\xfe broken\nEnd",
        [(1, "Good film."), (3, "Dull."), (4, "Über"), (5, "not UTF-8"), (6, "End")],
    ),
    "objects.jsonl": (
        b'{"body": "Good film."}\n{"body": 3}\n\n{"text": "x"}\n{"body"\n["Good"]\n{"body": " "}\n'
        b'{"body": "\\ud800"}\n{"body": "two\\nlines"}',
        [
            (1, "Good film."), (2, "'body' is a int, expected a text"), (4, "no field 'body'"),
            (5, "not JSON"), (6, "a JSON list"), (7, "the text is empty"), (8, "not UTF-8"),
            (9, "two\nlines"),
        ],
    ),
    "columns.csv": (
        f'id,body\n1,"Good, long\nfilm."\n2\n\n3,Dull.\n4,{LONG}\n5,\n6,End\n'.encode(),
        [
            (2, "Good, long\nfilm."), (4, "1 columns, and 'body' is column 2"), (6, "Dull."),
            (7, "no CSV"), (8, "the text is empty"), (9, "End"),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_each_row_is_a_text_or_says_why_not(name, compressed, tmp_path):
    content, expected = FILES[name]
    path = tmp_path / (f"{name}.gz" if compressed else name)
    path.write_bytes(gzip.compress(content) if compressed else content)
    rows = list(read_rows(path, "body"))
    assert [row.line for row in rows] == [line for line, _ in expected]
    for row, (_, words) in zip(rows, expected, strict=True):
        assert row.text == words and not row.error or (words in row.error and not row.text)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pdf", b"", r"a\.pdf' must be one of \.txt, \.jsonl, \.csv"),
        ("a.csv", b"id,text\n1,x\n", r"no column 'body' in the header \['id', 'text'\]"),
        ("a.txt.gz", gzip.compress(b"Good film.\n" * 99, mtime=0)[:-9], "not a whole gzip file"),
        ("a.txt.gz", b"Good film.\n", "not a whole gzip file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(read_rows(path, "body"))
