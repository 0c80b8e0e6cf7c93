"""The verbs as functions, for notebooks and programs; the command line calls the same.

```
import sentidistill_jax as sd

config = sd.load_config("knowdist", {"texts.sources": ("shop=reviews.csv#review#label=stars",)})
sd.build_corpus(config, "run")
sd.teach(config, "run")
sd.train(config, "run")
sd.evaluate(config, "run", "students/knowdist")["sets"]
sd.predict(["A quiet treasure."], "students/knowdist", "run")
```

As with the verbs, what is finished in a working directory is not done again.
"""

import json
import os
import pathlib
import runpy
from collections.abc import Mapping, Sequence
from typing import Any

from sentidistill_jax.config_files import config_file, make_importable
from sentidistill_jax.settings import Config
from sentidistill_jax.stages import corpus as corpus_stage
from sentidistill_jax.stages import evaluate as evaluate_stage
from sentidistill_jax.stages import predict as predict_stage
from sentidistill_jax.stages import teach as teach_stage
from sentidistill_jax.stages import train as train_stage
from sentidistill_jax.workdir import Workdir

Folder = str | os.PathLike[str]


def load_config(name: str = "knowdist", fields: Mapping[str, Any] | None = None) -> Config:
    """A config, as --config=NAME and --config.FIELD=VALUE make it.

    Args:
      name: One of the project's own, or the path of a config file; arguments may follow a colon.
      fields: Dotted names -> values.

    Raises:
      FileNotFoundError: If there is no such config.
      KeyError: If it has no such field.
      TypeError: If a value is of another type than the field's.
    """
    make_importable()
    path, _, arguments = config_file(name).partition(":")
    config = runpy.run_path(path)["get_config"](arguments)
    config.lock()
    config.update_from_flattened_dict(fields or {})
    return config


def build_corpus(config: Config, workdir: Folder) -> None:
    """User texts and the teacher's labels to the prompts of `config.stage`.

    Raises:
      ValueError: If a setting, a source or a definition is wrong.
      FileNotFoundError: If a source or the teacher is not there.
    """
    root = Workdir(pathlib.Path(workdir))
    corpus_stage.check_stage(config)
    corpus_stage.prepare_texts(config, root)
    corpus_stage.annotate(config, root)
    corpus_stage.measure_difficulty(config, root)
    corpus_stage.build_prompts(config, root)


def teach(config: Config, workdir: Folder) -> None:
    """Prompts of `config.stage` to the teacher's answers and its cached distributions."""
    teach_stage.teach(config, Workdir(pathlib.Path(workdir)))


def train(config: Config, workdir: Folder) -> pathlib.Path:
    """Trains `config.name` from its caches; returns the student's Hugging Face directory."""
    return train_stage.train_student(config, Workdir(pathlib.Path(workdir)))


def evaluate(
    config: Config, workdir: Folder, model: str, *, name: str | None = None
) -> dict[str, Any]:
    """Scores a model on held-out texts and, where its files are at hand, on SentiBench.

    Args:
      config: As of `load_config`.
      workdir: Holds the held-out texts, and gets the scores.
      model: students/NAME, a Hugging Face directory, a GGUF file, an embedded model, "endpoint" for
        the served model of the config, "teacher" for its few-shot teacher, or "linear" for TF-IDF
        and logistic regression.
      name: Of the scores; by default the model's. The teacher's is teacher-raw, and linear-teacher
        that of the linear classifier.

    Returns:
      What the file scores.json holds, see docs/data_formats.md.
    """
    root = Workdir(pathlib.Path(workdir))
    fixed = {"teacher": "teacher-raw", "linear": "linear-teacher"}
    name = fixed.get(model) or name or model.rstrip("/").split("/")[-1]
    if model == "teacher":
        evaluate_stage.evaluate_teacher(config, root)
    elif model == "linear":
        evaluate_stage.evaluate_linear(config, root)
    elif model == "endpoint":
        evaluate_stage.evaluate_endpoint(name, config, root)
    else:
        evaluate_stage.evaluate_student(name, config, root, source=model)
    return json.loads((root.evaluation(name) / "scores.json").read_text())


def predict(
    texts: Sequence[str], model: str, workdir: Folder = "workdir", *, task: str = "sentiment"
) -> list[dict[str, Any]]:
    """Labels texts, asked without demonstrations.

    Args:
      texts: At least one.
      model: students/NAME of the working directory, or any other model that can be loaded.
      workdir: Where the student was trained.
      task: One of its label tasks.

    Returns:
      Per text `text`, `label`, and `probs`: label -> its share among the labels.
    """
    return list(predict_stage.predict(model, Workdir(pathlib.Path(workdir)), texts, task=task))
