"""SentiBench on disk: `<data_dir>/<dataset>/{train,test}.json`, read as published and checked."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from sentidistill_jax.evaluation.checksums import SHA256
from sentidistill_jax.evaluation.tasks import Task, get_task

Split = Literal["train", "val", "test"]
Item = Mapping[str, Any]  # one JSON object of a split; texts are raw, nothing stripped or unescaped

DATA_DIR_VARIABLE = "SENTIBENCH_DIR"


@dataclasses.dataclass(frozen=True, eq=False)  # compared by identity, hence usable as a cache key
class Dataset:
    """Both splits of one task, in file order."""

    task: Task
    train: tuple[Item, ...]  # the pool of demonstrations
    test: tuple[Item, ...]  # the evaluated items


def load_dataset(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Reads both splits of a dataset; repeated calls share one copy, which must not be changed.

    Args:
      name: Dataset name, e.g. `sc/imdb`.
      data_dir: Folder of SentiBench; the environment variable SENTIBENCH_DIR if None.

    Returns:
      The dataset.

    Raises:
      FileNotFoundError: If the folder is not given or a file is missing.
      ValueError: If the name is unknown or a file is not what the task table describes.
    """
    return _load_dataset(get_task(name), resolve_data_dir(data_dir))


def resolve_data_dir(data_dir: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Returns `data_dir` as a path, or the folder that SENTIBENCH_DIR names.

    Raises:
      FileNotFoundError: If neither is given.
    """
    chosen = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    if not chosen:
        raise FileNotFoundError(
            f"No SentiBench folder: data_dir=None and {DATA_DIR_VARIABLE} is not set; "
            "set one of them to the folder that holds sc/, multifaced/ and absa/."
        )
    return pathlib.Path(chosen)


def development_set(dataset: Dataset, examples: int) -> Dataset:
    """The same task without its test split, to choose a checkpoint by.

    Args:
      dataset: The data.
      examples: The last so many of the training items take the place of the test items; the others
        remain the pool of demonstrations.
    """
    return Dataset(dataset.task, dataset.train[:-examples], dataset.train[-examples:])


@functools.lru_cache(maxsize=32)
def _load_dataset(task: Task, data_dir: pathlib.Path) -> Dataset:
    return Dataset(task, read_split(task, "train", data_dir), read_split(task, "test", data_dir))


def split_files(task: Task) -> dict[Split, str]:
    """Returns the files of a task by split, relative to the folder of SentiBench."""
    return {split: f"{task.name}/{split}.json" for split, size in _sizes(task).items() if size}


def _sizes(task: Task) -> dict[Split, int]:
    return {"train": task.train_size, "val": task.val_size, "test": task.test_size}


def read_split(task: Task, split: Split, data_dir: pathlib.Path) -> tuple[Item, ...]:
    """Reads and checks one split.

    Args:
      task: The task whose file is read.
      split: `train` (demonstrations), `test`, or `val`, which no score reads.
      data_dir: Folder of SentiBench.

    Returns:
      The items in file order.

    Raises:
      FileNotFoundError: If the file is missing.
      ValueError: If it is not a JSON array of the expected length, fields and labels.
    """
    path = data_dir / task.name / f"{split}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; expected the {split} split of {task.name} there, check data_dir."
        )
    try:
        items = json.loads(path.read_text(encoding="utf-8-sig"))  # all but two files have a BOM
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {error.object[error.start]:#04x} at {error.start}),"
            " expected UTF-8 with or without a byte order mark; copy the file again."
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); copy the file again.") from error
    expected = _sizes(task)[split]
    found = len(items) if isinstance(items, list) else type(items).__name__
    if found != expected:
        raise ValueError(
            f"{path} holds {found} items, expected a JSON array of {expected}; copy the file again."
        )
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


def _check_fields(item: Any, expected: tuple[str, ...], where: str) -> None:
    found = list(item) if isinstance(item, dict) else type(item).__name__
    if not isinstance(item, dict) or not item.keys() >= set(expected):
        raise ValueError(f"{where}: found {found}, expected an object with {list(expected)}.")


def verify(
    data_dir: str | os.PathLike[str] | None = None, files: Iterable[str] = tuple(SHA256)
) -> None:
    """Checks files of a SentiBench copy against their recorded SHA-256.

    Args:
      data_dir: Folder of SentiBench; the environment variable SENTIBENCH_DIR if None.
      files: Which ones, relative to the folder; by default all.

    Raises:
      FileNotFoundError: If the folder is not given or files are missing; all of them are named.
      ValueError: If files differ from the published ones; all of them are named.
    """
    folder, files = resolve_data_dir(data_dir), tuple(files)
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{', '.join(missing)} missing in {folder}; expected the published SentiBench files "
            "there, copy them again."
        )
    altered = []
    for name in files:
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != SHA256[name]:
            altered.append(f"{name} (expected SHA-256 {SHA256[name]}, found {found})")
    if altered:
        raise ValueError(
            f"{', '.join(altered)} in {folder} differ from the published SentiBench files; "
            "copy them again, scores on altered data are not comparable."
        )
