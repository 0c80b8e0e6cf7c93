"""scores.json and predictions.jsonl of one evaluated model, as they are written."""

import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import transformers

from sentidistill_jax.artifact import Artifact, write_json
from sentidistill_jax.errors import storage_errors


@storage_errors()
def write_scores(
    artifact: Artifact, scores: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]
) -> None:
    """Writes both files, and drops the parts that an interrupted evaluation goes on from.

    Args:
      artifact: Where they go.
      scores: Content of scores.json, see docs/data_formats.md.
      predictions: Lines of predictions.jsonl.
    """
    directory = artifact.directory
    artifact.begin()
    with (directory / "predictions.jsonl").open("w") as file:
        file.writelines(json.dumps(line) + "\n" for line in predictions)
        file.flush()
        os.fsync(file.fileno())
    write_json(directory / "scores.json", scores)
    artifact.finish({name: of_set["examples"] for name, of_set in scores["sets"].items()})
    shutil.rmtree(directory / "parts", ignore_errors=True)


def provenance(settings: Mapping[str, Any], origin: Mapping[str, Any]) -> dict[str, Any]:
    """What was scored, and with what.

    Args:
      settings: The section `evaluation`.
      origin: Identity of the model; empty for an ensemble of answers.
    """
    return {
        "backend": jax.default_backend(),
        "versions": {
            "jax": jax.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "transformers": transformers.__version__,
        },
        "settings": settings,
        **origin,
    }
