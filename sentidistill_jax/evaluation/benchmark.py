"""What a benchmark is: tasks that are asked, averaged and shown together.

Nothing else of this folder knows a task by name. A benchmark is a module of `benchmarks/` that
builds a `Benchmark`; see `benchmarks/sentibench.py`.
"""

import dataclasses
import functools
import os
import pathlib
import statistics
from collections.abc import Callable, Iterable, Mapping

from sentidistill_jax.evaluation.data import read_split, verify_files
from sentidistill_jax.evaluation.task import Dataset, Item, Split, Task

Reader = Callable[[Task, Split, pathlib.Path], tuple[Item, ...]]  # of one split of a folder


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

    def verify(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        files: Iterable[str] | None = None,
    ) -> None:
        """Checks files of a copy against their recorded SHA-256.

        Args:
          data_dir: Folder of the benchmark; None takes the one that the environment names.
          files: Which ones, relative to the folder; None checks all.

        Raises:
          FileNotFoundError: If the folder is not given or files are missing; all are named.
          ValueError: If files differ from the published ones; all are named.
        """
        verify_files(self.data_dir(data_dir), self.sha256, self.sha256 if files is None else files)


@functools.lru_cache(maxsize=32)
def _load(read: Reader, task: Task, data_dir: pathlib.Path) -> Dataset:
    return Dataset(task, read(task, "train", data_dir), read(task, "test", data_dir))
