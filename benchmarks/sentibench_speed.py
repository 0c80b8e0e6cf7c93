"""SentiBench examples per second beside the published procedure, and whether the answers agree.

The published one: transformers, left padding, batches of 4 (label tasks), 1 (imdb, yelp2) or 16
(fine-grained), one forward pass per label, 150 new tokens for an answer. This project's answers the
same prompts once to compile and once more to be timed; both times are given.

A label that differs is a tie if the scores of the two labels differ by less than `--tie` on one of
the sides, in nats. Where answers differ, the first differing character is where rounding chose
another token; how far the two tokens were apart is not asked.
"""

import argparse
import os
import pathlib
import platform
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from torch_peer import Ask, torch_peer

from sentidistill_jax.evaluation.benchmarks import SENTIBENCH
from sentidistill_jax.evaluation.task import Task
from sentidistill_jax.export import export
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.language_model import AnswerSettings
from sentidistill_jax.models.load import load_model
from sentidistill_jax.sharding import make_mesh

_BATCHES = {"sc/imdb": 1, "sc/yelp2": 1}  # as published; 4 and 16 otherwise
_SEED, _K_SHOT, _NEW_TOKENS = 42, 4, 150


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument(
        "--datasets", nargs="+", default=list(SENTIBENCH.tasks), choices=list(SENTIBENCH.tasks)
    )
    parser.add_argument("--examples", type=int, default=200, help="of each data set")
    parser.add_argument("--tokens-per-batch", type=int, default=2048)
    parser.add_argument("--tie", type=float, default=1e-3)
    options = parser.parse_args()

    mesh = make_mesh({"data": 1}, jax.devices()[:1])
    model = load_model(options.model, mesh, dtype=jnp.dtype(options.dtype))
    local = LocalModel.on_mesh(model, mesh, tokens_per_batch=options.tokens_per_batch)
    local = local.with_settings(AnswerSettings())
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder) / "model"
        export(model, directory)
        arguments = (directory, options.dtype, os.cpu_count())
        with torch_peer("sentibench_speed_torch.py", *arguments) as ask:
            print(
                f"{time.strftime('%Y-%m-%d')}, jax {jax.__version__}, {os.cpu_count()} cores of"
                f" {platform.processor() or platform.machine()}; {options.model},"
                f" {options.dtype}, the first {options.examples} examples of each data set,"
                f" seed {_SEED}, {_K_SHOT} demonstrations\n"
            )
            print(
                "| data set | published, s | ours, s | with compiling, s | ratio | same answers |"
                " ties |\n|---|---|---|---|---|---|---|"
            )
            totals: dict[bool, list[dict[str, float]]] = {True: [], False: []}
            for name in options.datasets:
                task = SENTIBENCH.task(name)
                row = compare(task, local, ask, options)
                totals[bool(task.label_words)].append(row)
                print_row(name, row)
            for labels, rows in totals.items():
                if rows:
                    summed = {key: sum(row[key] for row in rows) for key in rows[0]}
                    print_row("label tasks" if labels else "fine-grained tasks", summed)


def print_row(name: str, row: dict[str, float]) -> None:
    print(
        f"| {name} | {row['published']:.1f} | {row['ours']:.1f} | {row['first']:.1f}"
        f" | {row['published'] / row['ours']:.2f} | {row['same']:.0f} of {row['examples']:.0f}"
        f" | {row['ties']:.0f} |",
        flush=True,
    )


def compare(task: Task, local: LocalModel, ask: Ask, options: Any) -> dict[str, float]:
    """Seconds of both sides, and on how many answers they agree."""
    data = SENTIBENCH.load(task.name)
    count = min(options.examples, task.test_size)
    prompts = [data.prompt(index, _SEED, _K_SHOT) for index in range(count)]
    words = list(task.label_words or ())
    batch = _BATCHES.get(task.name, 4 if words else 16)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        mine: Any = (
            local.label_logprobs(prompts, words)
            if words
            else [
                one.text
                for one in local.complete(
                    prompts, _NEW_TOKENS, stop=task.format.stop, is_complete=task.format.is_complete
                )
            ]
        )
        seconds.append(time.perf_counter() - start)
    answer = ask(prompts=prompts, label_words=words, batch=batch)
    ties = 0
    if words:
        theirs = np.array(answer["logits"])
        chosen, expected = mine.argmax(axis=1), theirs.argmax(axis=1)
        agree = chosen == expected
        for row in np.flatnonzero(~agree):
            gaps = [
                abs(side[row, chosen[row]] - side[row, expected[row]]) for side in (mine, theirs)
            ]
            ties += min(gaps) < options.tie
        same = int(agree.sum())
    else:
        pairs = zip(mine, answer["texts"], strict=True)
        same = sum(task.extract_answer(a) == task.extract_answer(b) for a, b in pairs)
    return {
        "published": answer["seconds"],
        "ours": seconds[1],
        "first": seconds[0],
        "same": same,
        "ties": ties,
        "examples": count,
    }


if __name__ == "__main__":
    main()
