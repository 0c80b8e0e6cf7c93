"""The builder: a config per task, splits in file order, every file checked before it is read."""

import os
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from sentidistill_jax.datasets.sentibench.citations import citation_of
from sentidistill_jax.datasets.sentibench.features import example_of, features_of
from sentidistill_jax.datasets.sentibench.source import find_files
from sentidistill_jax.evaluation.data import Split, read_split, split_files, verify
from sentidistill_jax.evaluation.tasks import TASKS, Task

_TFDS_NAMES: dict[Split, str] = {"train": "train", "val": "validation", "test": "test"}


def _config(task: Task) -> tfds.core.BuilderConfig:
    metric = task.metric.replace("_", " ")
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
    BUILDER_CONFIGS = [_config(task) for task in TASKS.values()]

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
          file_format: Of the prepared files; only this one can be read without TensorFlow.
          **kwargs: As of any builder: `config`, `data_dir`, `version`.
        """
        super().__init__(file_format=file_format, **kwargs)
        self._source_dir = source_dir

    @property
    def _task(self) -> Task:
        return next(task for task in TASKS.values() if task.name.endswith(f"/{self._config_name}"))

    @property
    def _config_name(self) -> str:
        assert self.builder_config is not None
        return self.builder_config.name

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
        files = split_files(self._task)
        verify(folder, files.values())
        return {
            _TFDS_NAMES[split]: self._generate_examples(read_split(self._task, split, folder))
            for split in files
        }

    def _generate_examples(self, items: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, item in enumerate(items):
            yield index, example_of(self._task, index, item)
