"""Files of benchmarks: JSON arrays read as published, and compared with their SHA-256."""

import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sentidistill_jax.evaluation.task import Item, Split, Task


def read_split(task: Task, split: Split, data_dir: pathlib.Path) -> tuple[Item, ...]:
    """Reads and checks one split, `<data_dir>/<task>/<split>.json`.

    Args:
      task: The task whose file is read.
      split: `train` (demonstrations), `test`, or `val`, which no score reads.
      data_dir: Folder of the benchmark.

    Returns:
      The items in file order.

    Raises:
      FileNotFoundError: If the file is missing.
      ValueError: If it is not a JSON array of the expected length, fields and labels.
    """
    path = data_dir / task.name / f"{split}.json"
    items = _read_array(path, task.split_sizes.get(split, 0))
    for index, item in enumerate(items):
        _check_item(task, item, f"{path}, item {index}")
    return tuple(items)


def _check_item(task: Task, item: Any, where: str) -> None:
    _check_fields(item, task.fields, where)
    if task.label_words and str(item["label"]).lower() not in task.labels:
        raise ValueError(
            f"{where}: label={item['label']!r}, expected one of {list(task.labels)} in any case."
        )
    if task.list_field:
        annotations = item[task.list_field]
        if not isinstance(annotations, list):
            found = type(annotations).__name__
            raise ValueError(f"{where}: {task.list_field} is a {found}, expected a list.")
        for annotation in annotations:
            _check_fields(annotation, task.list_item_fields, f"{where}, {task.list_field}")


def _read_array(path: pathlib.Path, count: int) -> list[Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; expected a split there, check data_dir.")
    try:
        items = json.loads(path.read_text(encoding="utf-8-sig"))  # most published ones have a BOM
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {error.object[error.start]:#04x} at {error.start}),"
            " expected UTF-8 with or without a byte order mark; copy the file again."
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); copy the file again.") from error
    found = len(items) if isinstance(items, list) else type(items).__name__
    if found != count:
        raise ValueError(
            f"{path} holds {found} items, expected a JSON array of {count}; copy the file again."
        )
    return items


def _check_fields(item: Any, expected: Sequence[str], where: str) -> None:
    """Raises ValueError unless the item is an object with at least the expected keys."""
    found = list(item) if isinstance(item, dict) else type(item).__name__
    if not isinstance(item, dict) or not item.keys() >= set(expected):
        raise ValueError(f"{where}: found {found}, expected an object with {list(expected)}.")


def verify_files(folder: pathlib.Path, sha256: Mapping[str, str], files: Iterable[str]) -> None:
    """Compares files with their recorded SHA-256.

    Args:
      folder: Where the files are.
      sha256: File, relative to the folder, -> the sum of the published one in hexadecimal.
      files: Which of them to compare.

    Raises:
      FileNotFoundError: If files are missing; all of them are named.
      ValueError: If files differ from the published ones; all of them are named.
    """
    files = tuple(files)
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{', '.join(missing)} missing in {folder}; expected the published files there, copy "
            "them again."
        )
    altered = []
    for name in files:
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != sha256[name]:
            altered.append(f"{name} (expected SHA-256 {sha256[name]}, found {found})")
    if altered:
        raise ValueError(
            f"{', '.join(altered)} in {folder} differ from the published files; copy them again, "
            "scores on altered data are not comparable."
        )
