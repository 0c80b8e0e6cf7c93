"""SentiBench for tensorflow-datasets, written and read without TensorFlow.

```
import tensorflow_datasets as tfds
import sentidistill_jax.datasets.sentibench  # registers the builder

test = tfds.data_source("sentibench/sst2", split="test")
```

Texts stay raw. The numeric label is the index that the scorer uses. A sequence inside a sequence
is something tensorflow-datasets writes only with TensorFlow, so OpeNER's spans are a flat table:
each row names its opinion by position. See docs/data_formats.md#sentibench-in-tensorflow-datasets.
"""

import os
import pathlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import requests
import tensorflow_datasets as tfds

from sentidistill_jax.datasets.citations import citation_of
from sentidistill_jax.evaluation.benchmarks.sentibench import COMMIT, SENTIBENCH
from sentidistill_jax.evaluation.task import Item, Split, Task

ARCHIVE_URL = f"https://github.com/HITSZ-HLT/Sentiment-Distillation/archive/{COMMIT}.zip"
_ARCHIVE_FOLDER = "datasets/"  # in the repository

_TFDS_SPLITS: dict[Split, str] = {"train": "train", "val": "validation", "test": "test"}
_INDEX = "index"  # position in the split's file; demonstrations are drawn by it
_OPENER = "absa/opener"
_SPAN_ROLES = ("Source", "Target", "Polar_expression")


def _config(task: Task) -> tfds.core.BuilderConfig:
    metric = task.metric.name.replace("_", " ")
    return tfds.core.BuilderConfig(
        name=task.name.split("/")[1], description=f"{task.name}: {task.category}, {metric}."
    )


class Sentibench(tfds.core.GeneratorBasedBuilder):
    """SentiBench: twelve English sentiment data sets in three categories (Zhang et al. 2025).

    `train` is the pool of demonstrations, `test` is evaluated, `validation` is read by no score and
    absent in Rest16's two pair tasks.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The files of HITSZ-HLT/Sentiment-Distillation at 2810fc2."}
    BUILDER_CONFIGS = [_config(task) for task in SENTIBENCH.tasks.values()]

    def __init__(
        self,
        *,
        source_dir: str | os.PathLike[str] | None = None,
        file_format: str | tfds.core.FileFormat = tfds.core.FileFormat.ARRAY_RECORD,
        **kwargs: Any,
    ):
        """Makes the builder of one config.

        Args:
          source_dir: Folder of SentiBench's files; None takes SENTIBENCH_DIR, and without that the
            archive of the official repository. Not needed once the data set is prepared.
          file_format: Format of the prepared files; only this one can be read without TensorFlow.
          **kwargs: Arguments of any builder: `config`, `data_dir`, `version`.
        """
        super().__init__(file_format=file_format, **kwargs)
        self._source_dir = source_dir

    @property
    def _task(self) -> Task:
        config = self.builder_config
        return next(
            task
            for task in SENTIBENCH.tasks.values()
            if config is not None and task.name.endswith(f"/{config.name}")
        )

    def _info(self) -> tfds.core.DatasetInfo:
        task = self._task
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features_of(task)),
            supervised_keys=("sentence", "label") if task.label_words else None,
            homepage="https://github.com/HITSZ-HLT/Sentiment-Distillation",
            citation=citation_of(task.name),
            disable_shuffling=True,  # the official demonstrations depend on the file order
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        folder = find_files(self._source_dir, dl_manager)
        files = self._task.split_files
        SENTIBENCH.verify(folder, files.values())
        return {
            _TFDS_SPLITS[split]: self._generate_examples(SENTIBENCH.read(self._task, split, folder))
            for split in files
        }

    def _generate_examples(self, items: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, item in enumerate(items):
            yield index, example_of(self._task, index, item)


def features_of(task: Task) -> dict[str, Any]:
    """Returns the features of a task's examples, for `tfds.features.FeaturesDict`."""
    features: dict[str, Any] = {_INDEX: np.int32}
    if task.label_words:
        features |= {name: tfds.features.Text() for name in task.fields if name != "label"}
        return features | {"label": tfds.features.ClassLabel(names=list(task.labels))}
    features |= {name: tfds.features.Text() for name in task.fields if name != task.list_field}
    if task.name == _OPENER:
        return features | {
            "opinions": _rows(Polarity=tfds.features.Text()),
            "spans": _rows(
                opinion=np.int32,
                role=tfds.features.ClassLabel(names=list(_SPAN_ROLES)),
                text=tfds.features.Text(),
                offsets=tfds.features.Text(),
            ),
        }
    return features | {
        task.list_field: _rows(**{name: tfds.features.Text() for name in task.list_item_fields})
    }


def _rows(**columns: Any) -> tfds.features.Sequence:
    return tfds.features.Sequence(columns)


def example_of(task: Task, index: int, item: Item) -> dict[str, Any]:
    """Returns an item of the task's files as an example of `features_of(task)`.

    Args:
      task: The item's task.
      index: Position of the item in its file, from 0.
      item: An item that `SENTIBENCH.read` accepted.
    """
    example = {_INDEX: index} | {name: item[name] for name in task.fields}
    if task.label_words:
        return example | {"label": task.gold(item)}
    if task.name == _OPENER:
        opinions = item[task.list_field]
        return example | {
            "opinions": [{"Polarity": opinion["Polarity"]} for opinion in opinions],
            "spans": [
                {"opinion": number, "role": role, "text": text, "offsets": offsets}
                for number, opinion in enumerate(opinions)
                for role in _SPAN_ROLES
                for text, offsets in zip(*opinion[role], strict=True)
            ],
        }
    rows = item[task.list_field]
    return example | {
        task.list_field: [{name: row[name] for name in task.list_item_fields} for row in rows]
    }


def find_files(
    source_dir: str | os.PathLike[str] | None, downloads: tfds.download.DownloadManager
) -> pathlib.Path:
    """Returns the folder of SentiBench's files.

    Args:
      source_dir: The folder; None takes SENTIBENCH_DIR, and without that the archive.
      downloads: Fetches the archive, once.

    Raises:
      FileNotFoundError: If there is no such folder.
      ConnectionError: If the archive cannot be fetched.
      ValueError: If what was fetched is no archive.
    """
    chosen = source_dir or os.environ.get(SENTIBENCH.data_dir_variable)
    if chosen:
        if not pathlib.Path(chosen).is_dir():
            raise FileNotFoundError(
                f"{chosen} is no folder; set source_dir or SENTIBENCH_DIR to the folder that holds"
                " SentiBench's sc/, multifaced/ and absa/."
            )
        return pathlib.Path(chosen)
    try:
        archive = pathlib.Path(os.fspath(downloads.download(ARCHIVE_URL)))
    except (requests.RequestException, tfds.download.DownloadError) as error:
        raise ConnectionError(
            f"{ARCHIVE_URL} could not be fetched ({type(error).__name__}); try again, or set"
            " SENTIBENCH_DIR to a folder that holds SentiBench's sc/, multifaced/ and absa/."
        ) from error
    return _unpack(archive)


def _unpack(archive: pathlib.Path) -> pathlib.Path:
    """Unpacks SentiBench's files beside the archive; tfds would want TensorFlow for that."""
    folder = archive.with_name(f"{archive.name}.files")
    if folder.is_dir():
        return folder
    unfinished = pathlib.Path(tempfile.mkdtemp(dir=archive.parent))
    try:
        with zipfile.ZipFile(archive) as opened:
            # The repository lies in a folder named after the commit.
            members = {name.partition("/")[2]: name for name in opened.namelist()}
            for name in SENTIBENCH.sha256:
                if _ARCHIVE_FOLDER + name not in members:
                    continue  # the check of the files names it
                (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
                (unfinished / name).write_bytes(opened.read(members[_ARCHIVE_FOLDER + name]))
        unfinished.rename(folder)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is no zip file ({error}); remove it and try again.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder
