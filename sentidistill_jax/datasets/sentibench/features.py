"""Features of each SentiBench task, and an item of its files as an example of them.

Texts stay raw. The numeric label is the index that the scorer uses. A sequence inside a sequence
is something tensorflow-datasets writes only with TensorFlow, so OpeNER's spans are a flat table:
each row names its opinion by position.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from sentidistill_jax.evaluation.data import Item
from sentidistill_jax.evaluation.gold import gold_label_index
from sentidistill_jax.evaluation.tasks import Task

_INDEX = "index"  # position in the split's file; demonstrations are drawn by it
_OPENER = "absa/opener"
_SPAN_ROLES = ("Source", "Target", "Polar_expression")


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
      item: An item that `evaluation.data.read_split` accepted.
    """
    example = {_INDEX: index} | {name: item[name] for name in task.fields}
    if task.label_words:
        return example | {"label": gold_label_index(task, item)}
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
    return example | {task.list_field: [_only(row, task) for row in item[task.list_field]]}


def _only(row: Mapping[str, Any], task: Task) -> dict[str, Any]:
    return {name: row[name] for name in task.list_item_fields}
