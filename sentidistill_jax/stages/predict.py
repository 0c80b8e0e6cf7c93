"""Stage `predict`: texts to a label each, with the share of every label."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sentidistill_jax.corpus import icldist
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.models.load import load_model
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.workdir import Workdir


def predict(
    source: str, workdir: Workdir, texts: Sequence[str], *, task: str
) -> Iterator[dict[str, Any]]:
    """Labels texts, asked without demonstrations.

    Args:
      source: `students/NAME`, or any model that can be loaded.
      workdir: Where the student was trained.
      texts: At least one.
      task: A task of the corpus that has labels.

    Returns:
      Per text `text`, `label`, and `probs`: label -> its share among the labels.

    Raises:
      ValueError: If there is no such task, or no text.
    """
    tasks = [name for name, one in icldist.TASKS.items() if one.labels]
    if task not in tasks:
        raise ValueError(f"task={task!r} must be one of {tasks}.")
    if not texts:
        raise ValueError("there is no text to label; pass --text or lines on standard input.")
    mesh = make_mesh({"data": -1})
    loaded = load_model(workdir.model_source(source), mesh)
    model = LocalModel.on_mesh(loaded, mesh)
    prompts = [icldist.build_prompt(task, UnlabelledText("", "", text), ()) for text in texts]
    scores = model.label_logprobs([one.prompt for one in prompts], prompts[0].label_words)
    probs = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
    labels = icldist.TASKS[task].labels
    for text, row in zip(texts, probs, strict=True):
        shares = {label: round(float(p), 4) for label, p in zip(labels, row, strict=True)}
        yield {"text": text, "label": labels[int(row.argmax())], "probs": shares}
