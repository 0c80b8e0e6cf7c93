"""SentiBench as a config asks for it: test splits, and training items while a student learns."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from sentidistill_jax.evaluation import runner
from sentidistill_jax.evaluation.benchmarks import SENTIBENCH
from sentidistill_jax.language_model import AnswerSettings, LanguageModel

_CLEAN_UP = {"checkpoint": None, "yes": True, "no": False}
_MOST_DEVELOPMENT_EXAMPLES = 396  # the smallest test split: no protocol asks more of any


def protocol_of(
    settings: Mapping[str, Any], examples: int, max_position: int | None
) -> runner.Protocol:
    """What is asked of a model.

    Args:
      settings: The section `evaluation.sentibench`.
      examples: Examples of every data set; 0: all.
      max_position: Tokens the model has room for; None if it does not tell.

    Raises:
      ValueError: Names the field that is out of range.
    """
    room = None if max_position is None else max_position - settings["max_new_tokens"]
    limit = settings["max_prompt_length"] or room or 2**30
    if room is not None and not 1 <= limit <= room:
        raise ValueError(
            f"evaluation.sentibench.max_prompt_length={limit} must be 1 to {room}: the model reads"
            f" {max_position} tokens, {settings['max_new_tokens']} of them new ones."
        )
    return runner.Protocol(
        SENTIBENCH,
        datasets=tuple(settings["datasets"]),
        examples=examples,
        k_shot=settings["k_shot"],
        seeds=tuple(settings["seeds"]),
        max_prompt_length=limit,
        too_long=settings["too_long"],
        max_new_tokens=settings["max_new_tokens"],
        contextual_calibration=settings["contextual_calibration"],
        batch_calibration=settings["batch_calibration"],
    )


def answer_settings(settings: Mapping[str, Any], protocol: runner.Protocol) -> AnswerSettings:
    """How a model answers the prompts of a protocol.

    Args:
      settings: The section `evaluation.sentibench`.
      protocol: What is asked.

    Raises:
      ValueError: If `clean_up_spaces` is out of range.
    """
    clean_up = settings["clean_up_spaces"]
    if clean_up not in _CLEAN_UP:
        raise ValueError(
            f"evaluation.sentibench.clean_up_spaces={clean_up!r} must be one of {list(_CLEAN_UP)}."
        )
    cut = protocol.too_long == "left_truncate"
    return AnswerSettings(
        chat_template=settings["chat_template"],
        left_truncate_to=protocol.max_prompt_length if cut else None,
        repetition_penalty=settings["repetition_penalty"] or None,
        clean_up_spaces=_CLEAN_UP[clean_up],
    )


@dataclasses.dataclass(frozen=True)
class DevelopmentScorer:
    """F1 on items of the training splits, for a look at a student that is still learning.

    Args:
      settings: The section `evaluation`.
      data_dir: Folder of SentiBench, or None.

    Raises:
      ValueError: Names the field that is out of range, or says that there are no data, or other
        than the published ones.
      FileNotFoundError: If files are missing.
    """

    settings: Mapping[str, Any]
    data_dir: pathlib.Path | None

    def __post_init__(self):
        watched = self.settings["in_training"]
        if self.data_dir is None:
            raise ValueError(
                f"evaluation.in_training.interval={watched['interval']} needs SentiBench's files;"
                " set SENTIBENCH_DIR or texts.sentibench_dir, or set the interval to 0."
            )
        if not watched["datasets"] or not 1 <= watched["examples"] <= _MOST_DEVELOPMENT_EXAMPLES:
            raise ValueError(
                f"evaluation.in_training has datasets={tuple(watched['datasets'])} and"
                f" examples={watched['examples']}; expected some data sets, and 1 to"
                f" {_MOST_DEVELOPMENT_EXAMPLES} examples."
            )
        self._protocol(None)
        if not self.settings["sentibench"]["altered_files"]:
            SENTIBENCH.verify(self.data_dir, SENTIBENCH.files(watched["datasets"]))

    def __call__(self, model: LanguageModel) -> dict[str, float]:
        """`eval/DATASET/f1` of every data set of `in_training`, and the mean of them."""
        protocol = self._protocol(model.max_position)
        entries, _ = runner.run(
            model.with_settings(answer_settings(self.settings["sentibench"], protocol)),
            protocol,
            lambda name: SENTIBENCH.load(name, self.data_dir).development_set(protocol.examples),
            None,
        )
        scores = {f"eval/{name}/f1": entry["f1"] for name, entry in entries.items()}
        return scores | {"eval/mean_f1": float(np.mean(list(scores.values())))}

    def _protocol(self, max_position: int | None) -> runner.Protocol:
        watched = self.settings["in_training"]
        asked = {**self.settings["sentibench"], "datasets": watched["datasets"], "seeds": (42,)}
        return protocol_of(asked, watched["examples"], max_position)
