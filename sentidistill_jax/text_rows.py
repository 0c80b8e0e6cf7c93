"""Texts of a file row by row: a row without a usable text says why, and the next one follows."""

import csv
import dataclasses
import gzip
import json
import pathlib
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a file."""

    line: int  # on which it begins, from 1
    text: str  # without white space around it; "" if there is an error
    error: str = ""  # why the row has no text


def read_rows(path: pathlib.Path, column: str) -> Iterator[Row]:
    """Streams the texts of a file; blank lines are no rows.

    Args:
      path: A .txt file (one text a line), a .jsonl file (one object a line), or a .csv file (with a
        header), in UTF-8; each may be compressed, with .gz behind its name.
      column: Of the text; unused in .txt files.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is of another kind, lacks the column in its header, or ends too soon.
    """
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    if plain.suffix not in _PARSERS:
        raise ValueError(
            f"input {str(path)!r} must be one of {', '.join(_PARSERS)}, or such a file with .gz"
            " behind its name."
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; check --input.")
    return _rows(path, _PARSERS[plain.suffix], column)


# What a parser finds on a line: a text, or an error that says why there is none.
_Found = Iterator[tuple[int, str | ValueError]]


def _rows(
    path: pathlib.Path, parse: Callable[[IO[str], str], _Found], column: str
) -> Iterator[Row]:
    opened: Any = gzip.open if path.suffix == ".gz" else open
    try:
        # A byte that is not UTF-8 becomes a lone surrogate, which spoils its own row alone.
        with opened(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            for line, found in parse(file, column):
                yield _row(line, found)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is not a whole gzip file ({error}); copy it again.") from error


def _row(line: int, found: str | ValueError) -> Row:
    if isinstance(found, ValueError):
        return Row(line, "", str(found))
    text = found.strip()
    if not text:
        return Row(line, "", "the text is empty")
    if any("\ud800" <= character <= "\udfff" for character in text):
        return Row(line, "", "the text is not UTF-8")
    return Row(line, text)


def _lines(file: IO[str], column: str) -> _Found:
    del column
    return ((line, text) for line, text in enumerate(file, start=1) if text.strip())


def _objects(file: IO[str], column: str) -> _Found:
    for line, text in enumerate(file, start=1):
        if text.strip():
            yield line, _field(text, column)


def _field(text: str, column: str) -> str | ValueError:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        return ValueError(f"not JSON: {error}")
    if not isinstance(record, dict):
        return ValueError(f"a JSON {type(record).__name__}, expected an object")
    if column not in record:
        return ValueError(f"no field {column!r}")
    if not isinstance(record[column], str):
        return ValueError(f"{column!r} is a {type(record[column]).__name__}, expected a text")
    return record[column]


def _columns(file: IO[str], column: str) -> _Found:
    rows = csv.reader(file)
    header = next(rows, [])
    if column not in header:
        raise ValueError(
            f"there is no column {column!r} in the header {header}; name one of these as --column."
        )
    at = header.index(column)
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:  # such as a quote that nothing closes
            yield line, ValueError(f"no CSV: {error}")
            continue
        if len(row) > at:
            yield line, row[at]
        elif row:
            yield line, ValueError(f"{len(row)} columns, and {column!r} is column {at + 1}")


_PARSERS = {".txt": _lines, ".jsonl": _objects, ".csv": _columns}
