"""Runs a benchmark on a model: data sets and seeds in turn, each stored once it is finished."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sentidistill_jax.errors import storage_errors
from sentidistill_jax.evaluation import calibration, results
from sentidistill_jax.evaluation.benchmark import Benchmark
from sentidistill_jax.evaluation.prompt_truncation import (
    TOO_LONG,
    TruncatedPrompts,
    truncate_prompts,
)
from sentidistill_jax.evaluation.task import Dataset
from sentidistill_jax.language_model import LanguageModel


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Prompts to ask, and how; the defaults are the protocol that SentiBench was published with.

    Raises:
      ValueError: Names the field that is out of range.
    """

    benchmark: Benchmark
    datasets: tuple[str, ...] = ()  # names of tasks; (): all
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
            self.benchmark.task(dataset)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={self.seeds} must name at least one, and none twice.")
        if self.too_long not in TOO_LONG:
            raise ValueError(f"too_long={self.too_long!r} must be one of {list(TOO_LONG)}.")
        for name, least in (
            ("examples", 0), ("k_shot", 0), ("max_prompt_length", 1), ("max_new_tokens", 1),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}.")

    @property
    def dataset_names(self) -> tuple[str, ...]:
        """Names of the data sets to ask, in this order."""
        return self.datasets or tuple(self.benchmark.tasks)

    def count(self, dataset: str) -> int:
        """Returns the number of examples of a data set."""
        size = self.benchmark.task(dataset).test_size
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
    """Asks every prompt that has no stored answer yet, and scores the answers.

    Args:
      model: The model to ask.
      protocol: The prompts to ask.
      load: Returns the data set of a name.
      parts: Folder that stores each data set and seed once it is finished; None stores nothing.
      name: Name of the model on progress bars; "" shows none.
      write: Whether this process writes to `parts`.
      on_start: Called once every prompt is known to fit, before anything is asked or written.

    Returns:
      Data set -> its entry in scores.json, and the lines of predictions.jsonl.

    Raises:
      ValueError: If a prompt does not fit.
    """
    finished: dict[tuple[str, int], dict[str, Any]] = {}
    waiting: dict[tuple[str, int], TruncatedPrompts] = {}
    for dataset in protocol.dataset_names:
        for seed in protocol.seeds:
            part = _stored(_part(parts, dataset, seed)) if parts else None
            if part is not None:
                finished[dataset, seed] = part
            else:
                waiting[dataset, seed] = truncate_prompts(
                    load(dataset), seed, protocol.k_shot,
                    examples=protocol.count(dataset), limit=protocol.max_prompt_length,
                    too_long=protocol.too_long, lengths_of=model.prompt_lengths,
                )  # fmt: skip
    on_start()
    entries: dict[str, dict[str, Any]] = {}
    lines: list[results.Line] = []
    for dataset in protocol.dataset_names:
        data = load(dataset)
        for seed in protocol.seeds:
            if (dataset, seed) in finished:
                continue
            prompts = waiting[dataset, seed]
            answered = _ask(model, data, seed, prompts, protocol, name and f"{name}: {dataset}")
            finished[dataset, seed] = {"lines": answered, "prompts": prompts.report}
            if parts and write:
                _write(_part(parts, dataset, seed), finished[dataset, seed])
        entries[dataset] = results.summarize(
            data.task,
            data.test[: protocol.count(dataset)],
            {seed: finished[dataset, seed]["lines"] for seed in protocol.seeds},
            {seed: finished[dataset, seed]["prompts"] for seed in protocol.seeds},
            k_shot=protocol.k_shot,
        )
        for seed in protocol.seeds:
            lines += finished[dataset, seed]["lines"]
    return entries, lines


def _ask(
    model: LanguageModel,
    data: Dataset,
    seed: int,
    prompts: TruncatedPrompts,
    protocol: Protocol,
    progress: str,
) -> list[results.Line]:
    task, items = data.task, data.test[: len(prompts.texts)]
    set_name = protocol.benchmark.set_name(task.name)
    if not task.label_words:
        completions = model.complete(
            prompts.texts,
            protocol.max_new_tokens,
            stop=task.format.stop,
            is_complete=task.format.is_complete,
            progress=progress or None,
        )
        return results.answer_lines(set_name, task, items, seed, completions)

    def ask(texts: Sequence[str], what: str) -> np.ndarray:
        return model.label_logprobs(
            texts, task.label_words, progress=f"{progress}{what}" if progress else None
        )

    logprobs = ask(prompts.texts, "")
    calibrated: dict[str, np.ndarray] = {}
    if protocol.contextual_calibration:
        texts = [
            data.prompt(
                index, seed, protocol.k_shot, dropped=dropped, sentence=calibration.CONTENT_FREE
            )
            for index, dropped in enumerate(prompts.dropped)
        ]
        calibrated["contextual_calibration"] = calibration.contextual(
            logprobs, ask(texts, ", content-free")
        )
    if protocol.batch_calibration:
        calibrated["batch_calibration"] = calibration.batch(logprobs)
    return results.label_lines(set_name, task, items, seed, logprobs, calibrated)


def _part(parts: pathlib.Path, dataset: str, seed: int) -> pathlib.Path:
    return parts / f"{dataset.replace('/', '-')}-seed{seed}.json"


def _stored(part: pathlib.Path) -> dict[str, Any] | None:
    """A part that is there and whole."""
    try:
        return json.loads(part.read_text())
    except (FileNotFoundError, ValueError):
        return None


@storage_errors()
def _write(path: pathlib.Path, values: Mapping[str, Any]) -> None:
    """Writes a file that appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w") as file:
        file.write(json.dumps(values))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
