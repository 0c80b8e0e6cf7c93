"""Definition of a benchmark: tasks that are asked, averaged and shown together.

Nothing else of this folder knows a task by name. A benchmark is a module that builds a `Benchmark`;
see `evaluation/benchmarks/sentibench.py`.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sentidistill_jax.evaluation.task import Dataset, Item, Split, Task

# (task, split, folder of the benchmark) -> the items of the split.
Reader = Callable[[Task, Split, pathlib.Path], tuple[Item, ...]]


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


@dataclasses.dataclass(frozen=True, eq=False)
class Benchmark:
    """Tasks that are asked, averaged and shown together."""

    name: str  # in configs, in scores.json and before the names of its sets
    title: str  # for people
    tasks: Mapping[str, Task]  # name -> task, in the column order of its tables
    data_dir_variable: str  # environment variable that names the folder of its files
    sha256: Mapping[str, str] = dataclasses.field(default_factory=dict)  # of its published files
    read: Reader = read_split

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories of the tasks, in table order."""
        return tuple(dict.fromkeys(task.category for task in self.tasks.values()))

    def task(self, name: str) -> Task:
        """Returns the task called `name`.

        Raises:
          ValueError: If there is no such task.
        """
        if name not in self.tasks:
            raise ValueError(
                f"dataset={name!r} is not in {self.title}; choose one of {list(self.tasks)}."
            )
        return self.tasks[name]

    def set_name(self, task: str) -> str:
        """Returns how a task is called among the sets of scores.json, e.g. `sentibench/sc/imdb`."""
        return f"{self.name}/{task}"

    def average(self, values: Mapping[str, float]) -> float:
        """Returns the mean over all tasks; one without a value counts as 0."""
        return statistics.fmean(values.get(name, 0.0) for name in self.tasks)

    def category_means(self, values: Mapping[str, float]) -> dict[str, float]:
        """Returns the mean over the tasks of each category; one without a value counts as 0."""
        return {
            category: statistics.fmean(
                values.get(name, 0.0)
                for name, task in self.tasks.items()
                if task.category == category
            )
            for category in self.categories
        }

    def data_dir(self, data_dir: str | os.PathLike[str] | None = None) -> pathlib.Path:
        """Returns `data_dir` as a path, or the folder that the environment names.

        Raises:
          FileNotFoundError: If neither is given.
        """
        chosen = data_dir or os.environ.get(self.data_dir_variable)
        if not chosen:
            folders = ", ".join(sorted({f"{name.split('/')[0]}/" for name in self.tasks}))
            raise FileNotFoundError(
                f"No {self.title} folder: data_dir=None and {self.data_dir_variable} is not set; "
                f"set one of them to the folder that holds {folders}."
            )
        return pathlib.Path(chosen)

    def load(self, name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
        """Reads both splits of a task; repeated calls share one copy, which must not be changed.

        Args:
          name: Name of the task, e.g. `sc/imdb`.
          data_dir: Folder of the benchmark; None takes the one that the environment names.

        Raises:
          FileNotFoundError: If the folder is not given or a file is missing.
          ValueError: If the name is unknown or a file is not what the task describes.
        """
        return _load(self.read, self.task(name), self.data_dir(data_dir))

    def files(self, names: Iterable[str]) -> tuple[str, ...]:
        """Returns what `load` reads for some tasks, relative to the folder of the benchmark."""
        splits: tuple[Split, ...] = ("train", "test")
        return tuple(self.task(name).split_files[split] for name in names for split in splits)

    def sums(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        files: Iterable[str] | None = None,
    ) -> dict[str, str]:
        """Returns the SHA-256 of files of a copy.

        Args:
          data_dir: Folder of the benchmark; None takes the one that the environment names.
          files: Which ones, relative to the folder; None takes all.

        Raises:
          FileNotFoundError: If the folder is not given or files are missing; all are named.
        """
        folder, files = self.data_dir(data_dir), tuple(self.sha256 if files is None else files)
        missing = [name for name in files if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{', '.join(missing)} missing in {folder}; expected the published {self.title}"
                " files there, copy them again."
            )
        return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}

    def verify(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        files: Iterable[str] | None = None,
    ) -> dict[str, str]:
        """As `sums`, and compares them with the recorded ones.

        Raises:
          FileNotFoundError: If the folder is not given or files are missing; all are named.
          ValueError: If files differ from the published ones; all are named.
        """
        sums = self.sums(data_dir, files)
        altered = [
            f"{name} (expected SHA-256 {self.sha256[name]}, found {found})"
            for name, found in sums.items()
            if found != self.sha256[name]
        ]
        if altered:
            raise ValueError(
                f"{', '.join(altered)} in {self.data_dir(data_dir)} differ from the published"
                f" {self.title} files; copy them again, scores on altered data are not comparable."
            )
        return sums


@functools.lru_cache(maxsize=32)
def _load(read: Reader, task: Task, data_dir: pathlib.Path) -> Dataset:
    return Dataset(task, read(task, "train", data_dir), read(task, "test", data_dir))
