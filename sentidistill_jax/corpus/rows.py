"""Rows of a user's own files, read as a stream: a mapping from column names to values each.

A format is an entry of `FORMATS`; a file with `.gz`, `.bz2` or `.zst` behind its suffix is unpacked
on the way.
"""

import csv
import io
import json
import pathlib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import IO, Any, cast

Row = Mapping[str, Any]
_BATCH = 4096  # rows that are decoded together
_PACKED = (".gz", ".bz2", ".zst")


def suffix_of(path: pathlib.Path) -> str:
    """`.csv` of `reviews.csv.gz`."""
    return (path.with_suffix("") if path.suffix in _PACKED else path).suffix


def read_rows(path: pathlib.Path, columns: Collection[str]) -> Iterator[Row]:
    """Reads a file of one of the `FORMATS`.

    Args:
      path: The file.
      columns: Those that are needed; the rows may have more.

    Raises:
      ValueError: If the file is not UTF-8, not of its format, or lacks a column; the sentence names
        file and line, and the columns that it has.
    """
    try:
        yield from FORMATS[suffix_of(path)](path, columns)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte 0x{error.object[error.start]:02x}); convert it, for example"
            " with iconv -f latin1 -t utf8."
        ) from error


def check_columns(place: str, columns: Collection[str], there: Sequence[str]) -> None:
    """Refuses a place that lacks a column.

    Raises:
      ValueError: Names the column, and those that are there.
    """
    for column in columns:
        if column not in there:
            raise ValueError(f"{place} has no column {column!r}; it has {', '.join(there)}.")


def _open(path: pathlib.Path) -> IO[str]:
    if path.suffix not in _PACKED:
        return path.open(encoding="utf-8-sig", newline="")
    import pyarrow

    return io.TextIOWrapper(cast(Any, pyarrow.input_stream(path)), "utf-8-sig", newline="")


def _lines(path: pathlib.Path, columns: Collection[str]) -> Iterator[Row]:
    check_columns(str(path), columns, ["text"])
    with _open(path) as file:
        for line in file:
            if line.strip():
                yield {"text": line}


def _jsonl(path: pathlib.Path, columns: Collection[str]) -> Iterator[Row]:
    checked = False
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{path}:{number} is not JSON ({error.msg}); expected an object."
                ) from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}:{number} is no JSON object; expected one a line.")
            if not checked:  # later rows may leave out what they have nothing for
                check_columns(f"{path}:{number}", columns, list(row))
                checked = True
            yield row


def _separated(separator: str) -> Callable[[pathlib.Path, Collection[str]], Iterator[Row]]:
    def read(path: pathlib.Path, columns: Collection[str]) -> Iterator[Row]:
        csv.field_size_limit(sys.maxsize)  # a text may be longer than the module's 128 KiB
        with _open(path) as file:
            rows = csv.DictReader(file, delimiter=separator)
            check_columns(str(path), columns, rows.fieldnames or [])
            try:
                yield from rows
            except csv.Error as error:
                raise ValueError(f"{path}:{rows.line_num} is damaged: {error}.") from error

    return read


def _parquet(path: pathlib.Path, columns: Collection[str]) -> Iterator[Row]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        check_columns(str(path), columns, file.schema_arrow.names)
        for batch in file.iter_batches(_BATCH, columns=list(columns)):
            yield from batch.to_pylist()


def _arrow(path: pathlib.Path, columns: Collection[str]) -> Iterator[Row]:
    """A file of a Hugging Face data set; its classes are given by name."""
    import pyarrow

    info = path.with_name("dataset_info.json")
    features = json.loads(info.read_text()).get("features") or {} if info.is_file() else {}
    classes = {name: one["names"] for name, one in features.items() if "names" in one}
    with pyarrow.memory_map(str(path)) as mapped, pyarrow.ipc.open_stream(mapped) as batches:
        check_columns(str(path), columns, batches.schema.names)
        for batch in batches:
            for row in batch.select(list(columns)).to_pylist():
                yield {name: _class_name(value, classes.get(name)) for name, value in row.items()}


def read_tfds(source: str, columns: Collection[str]) -> Iterator[Row]:
    """Reads a split of a data set that tensorflow-datasets has prepared; nothing is downloaded.

    Args:
      source: `NAME/SPLIT` or `FOLDER/SPLIT`: what `tfds.builder` calls it (in TFDS_DATA_DIR), or
        the folder of its prepared files.
      columns: Features that are needed. Classes are given by name.

    Raises:
      ValueError: If it is not prepared in a format of random access, or lacks a feature.
    """
    import tensorflow_datasets as tfds

    name, _, split = source.rpartition("/")
    try:
        is_folder = pathlib.Path(name).is_dir()
        builder: Any = tfds.builder_from_directory(name) if is_folder else tfds.builder(name)
        rows = builder.as_data_source(split)
    # Its own exceptions have no common base, and some of them are ImportErrors.
    except Exception as error:
        raise ValueError(
            f"tfds:{source} cannot be read ({' '.join(str(error).split())[:200]}); expected"
            " tfds:NAME/SPLIT of a data set prepared with --file_format=array_record."
        ) from error
    features = builder.info.features
    check_columns(f"tfds:{source}", columns, sorted(features))
    for start in range(0, len(rows), _BATCH):
        for row in rows.__getitems__(range(start, min(start + _BATCH, len(rows)))):
            yield {
                column: _class_name(row[column], getattr(features[column], "names", None))
                for column in columns
            }


def _class_name(value: Any, names: Sequence[str] | None) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return names[value] if names is not None and value is not None and value >= 0 else value


FORMATS: dict[str, Callable[[pathlib.Path, Collection[str]], Iterator[Row]]] = {
    ".txt": _lines,
    ".jsonl": _jsonl,
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".parquet": _parquet,
    ".arrow": _arrow,
}
