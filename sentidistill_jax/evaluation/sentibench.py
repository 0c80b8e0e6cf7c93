"""SentiBench asked of a model: data sets and seeds one after the other, each kept once done."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sentidistill_jax.evaluation import calibration, results
from sentidistill_jax.evaluation.data import Dataset
from sentidistill_jax.evaluation.extract import NEXT_EXAMPLE, extract_answer, is_complete
from sentidistill_jax.evaluation.fitting import (
    TOO_LONG,
    FittedPrompts,
    content_free_prompts,
    fit_prompts,
)
from sentidistill_jax.evaluation.tasks import TASKS, get_task
from sentidistill_jax.language_model import LanguageModel


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What is asked; the defaults are the published protocol.

    Raises:
      ValueError: Names the field that is out of range.
    """

    datasets: tuple[str, ...] = tuple(TASKS)
    examples: int = 0  # the first so many of every test split; 0: all
    k_shot: int = 4
    seeds: tuple[int, ...] = (42,)
    max_prompt_length: int = 8192  # tokens
    too_long: str = "refuse"
    max_new_tokens: int = 150
    contextual_calibration: bool = False
    batch_calibration: bool = False

    def __post_init__(self):
        for dataset in self.datasets:
            get_task(dataset)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={self.seeds} must name at least one, and none twice.")
        if self.too_long not in TOO_LONG:
            raise ValueError(f"too_long={self.too_long!r} must be one of {list(TOO_LONG)}.")
        for name, least in (
            ("examples", 0), ("k_shot", 0), ("max_prompt_length", 1), ("max_new_tokens", 1),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}.")

    def count(self, dataset: str) -> int:
        """Examples of a data set."""
        size = get_task(dataset).test_size
        return min(self.examples or size, size)


def run(
    model: LanguageModel,
    protocol: Protocol,
    load: Callable[[str], Dataset],
    parts: pathlib.Path | None,
    *,
    name: str = "",
    write: bool = True,
    on_start: Callable[[], None] = lambda: None,
) -> tuple[dict[str, dict[str, Any]], list[results.Line]]:
    """Asks everything that is not kept yet, and scores it.

    Args:
      model: Who is asked.
      protocol: What is asked.
      load: Data set by name.
      parts: Folder that keeps each data set and seed once it is done; None keeps nothing.
      name: Of the model, for progress bars; "" shows none.
      write: Whether this process writes to `parts`.
      on_start: Called once every prompt is known to fit, before anything is asked or written.

    Returns:
      Data set -> its entry in scores.json, and the lines of predictions.jsonl.

    Raises:
      ValueError: If a prompt does not fit.
    """
    kept: dict[tuple[str, int], dict[str, Any]] = {}
    fitted: dict[tuple[str, int], FittedPrompts] = {}
    for dataset in protocol.datasets:
        for seed in protocol.seeds:
            path = parts and _part(parts, dataset, seed)
            if path and path.exists():
                kept[dataset, seed] = json.loads(path.read_text())
            else:
                fitted[dataset, seed] = fit_prompts(
                    load(dataset), seed, protocol.k_shot,
                    examples=protocol.count(dataset), limit=protocol.max_prompt_length,
                    too_long=protocol.too_long, lengths_of=model.prompt_lengths,
                )  # fmt: skip
    on_start()
    entries: dict[str, dict[str, Any]] = {}
    lines: list[results.Line] = []
    for dataset in protocol.datasets:
        data = load(dataset)
        for seed in protocol.seeds:
            if (dataset, seed) in kept:
                continue
            prompts = fitted[dataset, seed]
            asked = _ask(model, data, seed, prompts, protocol, name and f"{name}: {dataset}")
            kept[dataset, seed] = {"lines": asked, "prompts": prompts.report}
            if parts and write:
                _write(_part(parts, dataset, seed), kept[dataset, seed])
        entries[dataset] = results.summarise(
            data.task,
            data.test[: protocol.count(dataset)],
            {seed: kept[dataset, seed]["lines"] for seed in protocol.seeds},
            {seed: kept[dataset, seed]["prompts"] for seed in protocol.seeds},
            k_shot=protocol.k_shot,
        )
        for seed in protocol.seeds:
            lines += kept[dataset, seed]["lines"]
    return entries, lines


def _ask(
    model: LanguageModel,
    data: Dataset,
    seed: int,
    prompts: FittedPrompts,
    protocol: Protocol,
    progress: str,
) -> list[results.Line]:
    task, items = data.task, data.test[: len(prompts.texts)]
    if not task.label_words:
        completions = model.complete(
            prompts.texts,
            protocol.max_new_tokens,
            stop=(NEXT_EXAMPLE,),  # and no newline: an answer may follow on the second line
            is_complete=is_complete,
            progress=progress or None,
        )
        answers = [extract_answer(completion.text) for completion in completions]
        return results.answer_lines(task, items, seed, completions, answers)

    def ask(texts: Sequence[str], what: str) -> np.ndarray:
        return model.label_logprobs(
            texts, task.label_words, progress=f"{progress}{what}" if progress else None
        )

    logprobs = ask(prompts.texts, "")
    calibrated: dict[str, np.ndarray] = {}
    if protocol.contextual_calibration:
        texts = content_free_prompts(data, seed, protocol.k_shot, prompts)
        calibrated["contextual_calibration"] = calibration.contextual(
            logprobs, ask(texts, ", content-free")
        )
    if protocol.batch_calibration:
        calibrated["batch_calibration"] = calibration.batch(logprobs)
    return results.label_lines(task, items, seed, logprobs, calibrated)


def _part(parts: pathlib.Path, dataset: str, seed: int) -> pathlib.Path:
    return parts / f"{dataset.replace('/', '-')}-seed{seed}.json"


def _write(path: pathlib.Path, values: Mapping[str, Any]) -> None:
    """Writes a file that appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w") as file:
        file.write(json.dumps(values))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
