"""sentidistill predict: label texts, one JSON line per text.

Texts come from --text (may be repeated) or from standard input, one a line.
"""

import json
import sys

from absl import flags

from sentidistill_jax.cli import common
from sentidistill_jax.cli.main import Verb


def _flags(values: flags.FlagValues) -> None:
    common.define_workdir(values)
    flags.DEFINE_string(
        "model", None, "students/NAME of the workdir, a Hugging Face directory or a GGUF file.",
        required=True, flag_values=values,
    )  # fmt: skip
    flags.DEFINE_multi_string("text", [], "A text to label.", flag_values=values)
    flags.DEFINE_string("task", "sentiment", "A label task of the corpus.", flag_values=values)


def _run(values: flags.FlagValues) -> None:
    import numpy as np

    from sentidistill_jax.corpus import icldist
    from sentidistill_jax.corpus.user_texts import UnlabelledText
    from sentidistill_jax.inference.label_scoring import score_labels
    from sentidistill_jax.models.load import load_model
    from sentidistill_jax.sharding import make_mesh
    from sentidistill_jax.stages.teacher import make_engine

    tasks = [name for name, task in icldist.TASKS.items() if task.labels]
    if values.task not in tasks:
        raise ValueError(f"task={values.task!r} must be one of {tasks}.")
    texts = values.text or [line.strip() for line in sys.stdin if line.strip()]
    if not texts:
        raise ValueError("there is no text to label; pass --text or lines on standard input.")
    mesh = make_mesh({"data": -1})
    model = load_model(common.workdir(values).model_source(values.model), mesh)
    prompts = [
        icldist.build_prompt(values.task, UnlabelledText("", "", text), ()) for text in texts
    ]
    scores = score_labels(
        make_engine(model, mesh, 4096),
        model.tokenizer,
        [prompt.prompt for prompt in prompts],
        prompts[0].label_words,
    )
    labels = icldist.TASKS[values.task].labels
    probs = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
    for text, row in zip(texts, probs, strict=True):
        shares = {label: round(float(p), 4) for label, p in zip(labels, row, strict=True)}
        print(json.dumps({"text": text, "label": labels[int(row.argmax())], "probs": shares}))


VERB = Verb(_flags, _run)
