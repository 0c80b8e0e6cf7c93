"""Prefill and decode speed of this project beside `generate` of transformers.

The same weights, random prompts of one length, greedy, no end of text. Prefill is the time to the
first new token; decode is what the rest of a long generation takes. Sides take turns, so that
whatever else slows the machine slows both. The first turn compiles and is not counted.
"""

import argparse
import os
import pathlib
import platform
import statistics
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from torch_peer import Ask, torch_peer

from sentidistill_jax.export import export
from sentidistill_jax.inference.engine import Engine, GenerateRequest
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.models.load import load_model
from sentidistill_jax.sharding import make_mesh


def ours(engine: Engine, prompts: np.ndarray, new_tokens: int) -> tuple[float, list[list[int]]]:
    """Seconds, and what was written."""
    requests = [GenerateRequest(prompt) for prompt in prompts]
    start = time.perf_counter()
    written = dict(
        engine.generate(requests, SamplingConfig(max_new_tokens=new_tokens), stop_ids=())
    )
    seconds = time.perf_counter() - start
    return seconds, [written[row].tokens.tolist() for row in range(len(prompts))]


def theirs(
    ask: Ask, dtype: str, prompts: np.ndarray, new_tokens: int
) -> tuple[float, list[list[int]]]:
    """The same of the peer."""
    answer = ask(prompts=prompts.tolist(), new_tokens=new_tokens, dtype=dtype)
    return answer["seconds"], answer["tokens"]


def rates(seconds_of_one: float, seconds_of_all: float, prompts: np.ndarray, new_tokens: int):
    """Tokens per second of prefill and of decode."""
    rows, length = prompts.shape
    decode = rows * (new_tokens - 1) / (seconds_of_all - seconds_of_one)
    return {"prefill": rows * length / seconds_of_one, "decode": decode}


def middle(values: list[float], digits: int) -> str:
    low, median, high = min(values), statistics.median(values), max(values)
    return f"{median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--prompt", type=int, default=128, help="tokens of each prompt")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    mesh = make_mesh({"data": 1}, jax.devices()[:1])
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder) / "model"
        export(load_model(options.model, mesh), directory)
        with torch_peer("generate_torch.py", directory, os.cpu_count()) as ask:
            print(
                f"{time.strftime('%Y-%m-%d')}, jax {jax.__version__}, {os.cpu_count()} cores of"
                f" {platform.processor() or platform.machine()}; {options.model}, prompts of"
                f" {options.prompt} tokens, {options.new_tokens} new ones, {options.rounds} rounds:"
                " tokens/s, median (range)\n"
            )
            print("| dtype | batch | phase | this project | transformers | ratio | same tokens |")
            print("|---|---|---|---|---|---|---|")
            for dtype in options.dtypes:
                model = load_model(options.model, mesh, dtype=jnp.dtype(dtype))
                for batch in options.batches:
                    tokens_per_batch = batch * 2 * (options.prompt + options.new_tokens)
                    engine = Engine(
                        model.decoder, mesh, pad_id=0, tokens_per_batch=tokens_per_batch
                    )
                    compare(engine, ask, dtype, batch, options)


def compare(engine: Engine, ask: Ask, dtype: str, batch: int, options: Any) -> None:
    """Prints the rows of one dtype and batch size."""
    prompts = np.random.default_rng(batch).integers(
        1, engine.config.vocab_size, (batch, options.prompt), dtype=np.int32
    )
    measured: dict[str, list[tuple[float, float]]] = {"prefill": [], "decode": []}
    same = 0.0
    for turn in range(1 + options.rounds):
        sides = []
        for run in (
            lambda count: ours(engine, prompts, count),
            lambda count: theirs(ask, dtype, prompts, count),
        ):
            first, _ = run(1)
            whole, written = run(options.new_tokens)
            sides.append((rates(first, whole, prompts, options.new_tokens), written))
        (our_rates, our_tokens), (their_rates, their_tokens) = sides
        same = float(np.mean(np.array(our_tokens) == np.array(their_tokens)))
        if turn:
            for phase, pairs in measured.items():
                pairs.append((our_rates[phase], their_rates[phase]))
    for phase, pairs in measured.items():
        mine, peer = map(list, zip(*pairs, strict=True))
        ratio = middle([a / b for a, b in pairs], 2)
        print(
            f"| {dtype} | {batch} | {phase} | {middle(mine, 0)} | {middle(peer, 0)} | {ratio} |"
            f" {same:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
