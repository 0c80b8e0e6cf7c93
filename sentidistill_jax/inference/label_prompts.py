"""How a model is asked for a label, and what its scores of the label words mean."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from sentidistill_jax.corpus import icldist
from sentidistill_jax.corpus.user_texts import UnlabelledText

FILE = "label_prompts.json"  # beside an exported model
_SCHEMA_VERSION = 1
_TEXT = "{text}"


@dataclasses.dataclass(frozen=True)
class LabelPrompt:
    """A task as a model without demonstrations is asked it."""

    prompt: str  # ends right before the answer and holds `{text}` once
    labels: tuple[str, ...]
    words: tuple[str, ...]  # the answer that stands for each label, with its leading space
    # Added to the logprobs of the words, so that on average over training texts the labels are as
    # likely as the prior says; (): not known.
    offsets: tuple[float, ...] = ()

    @property
    def parts(self) -> tuple[str, str]:
        """What stands before a text, and what behind it."""
        before, _, behind = self.prompt.partition(_TEXT)
        return before, behind

    def about(self, text: str) -> str:
        """The prompt for a text, without white space around that."""
        return text.strip().join(self.parts)

    def probs(
        self, logprobs: Float[np.ndarray, "texts labels"], *, calibrate: bool = True
    ) -> Float[np.ndarray, "texts labels"]:
        """The share of every label among the labels, in float64.

        Args:
          logprobs: Of the first token of each word.
          calibrate: Whether the offsets are added.
        """
        scores = logprobs.astype(np.float64)
        if calibrate and self.offsets:
            scores = scores + np.asarray(self.offsets)[None]
        return np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))


def known_label_prompts() -> dict[str, LabelPrompt]:
    """The corpus' tasks that ask for one of some labels about a text and nothing besides."""
    found = {}
    for name, task in icldist.TASKS.items():
        if task.labels and task.subject is None:
            asked = icldist.build_prompt(name, UnlabelledText("", "", _TEXT), ())
            found[name] = LabelPrompt(asked.prompt, task.labels, asked.label_words)
    return found


def label_prompts_file(prompts: Mapping[str, LabelPrompt]) -> str:
    """The text of a file of prompts by task; see docs/data_formats.md."""
    tasks = {name: dataclasses.asdict(prompt) for name, prompt in prompts.items()}
    values = {"schema_version": _SCHEMA_VERSION, "tasks": tasks}
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def load_label_prompts(directory: pathlib.Path) -> dict[str, LabelPrompt] | None:
    """The prompts in a model's directory, by task; None where there is nothing.

    Raises:
      ValueError: If the file is of another version or damaged.
    """
    file = directory / FILE
    if not file.is_file():
        return None
    try:
        values: dict[str, Any] = json.loads(file.read_text("utf-8"))
        version = values["schema_version"]
        if version != _SCHEMA_VERSION:
            raise ValueError(
                f"{file} has schema_version={version!r}, expected {_SCHEMA_VERSION}; export the"
                " model again."
            )
        return {
            name: LabelPrompt(
                fields["prompt"],
                *(tuple(fields[field]) for field in ("labels", "words", "offsets")),
            )
            for name, fields in values["tasks"].items()
        }
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is damaged ({error!r}); export the model again.") from error
