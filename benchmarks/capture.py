"""What a cache costs on top of the teacher's answers, and what it survives.

overhead   The embedded teacher answers the same prompts (a) and nothing is kept, (b) and the top-k
           and the tail are reduced on the device, (c) and the cache is written, in turns, so that
           a change of the machine's speed meets all three. Ratios are of the best of each. The
           prompts are read in every turn; what is compiled is compiled before.
kills      A process that captures from a tiny random teacher through the whole stage's code is
           killed at random moments and started again, until it was killed `--kills` times.
"""

import argparse
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np
from flax import nnx
from reporting import Report
from teacher_text import SAMPLING, TEACHER, answers_of, load_teacher, manifest_of, prompts

from sentidistill_jax.data.teacher_cache import CacheWriter, verify
from sentidistill_jax.inference.engine import GenerateRequest
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.inference.tokens import encode, encode_prompt
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.load import LoadedModel, load_tokenizer
from sentidistill_jax.models.presets import PRESETS
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.teacher import local_answers
from sentidistill_jax.teacher.capture import capture

VICTIM_PROMPTS, VICTIM_SHARD = 120, 4


def overhead(report: Report, num_prompts: int, turns: int) -> None:
    model = load_teacher()
    asked = prompts(num_prompts)
    newline = int(encode(model.tokenizer, "\n")[0])
    groups: dict[str, list[GenerateRequest]] = {}
    for prompt in asked:
        tokens = encode_prompt(model.tokenizer, prompt.teacher_prompt)
        groups.setdefault(prompt.kind, []).append(GenerateRequest(tokens))

    def answer(k: int) -> int:
        answers = [
            generation
            for requests in groups.values()
            for _, generation in model.engine.generate(requests, SAMPLING, stop_ids=[newline], k=k)
        ]
        return sum(len(generation.tokens) for generation in answers)

    def write(codec: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            manifest = manifest_of(model, num_prompts, codec=codec, records_per_shard=num_prompts)
            capture(answers_of(model, manifest), asked, pathlib.Path(folder), manifest)

    runs: dict[str, Callable[[], object]] = {
        "answers alone": lambda: answer(0),
        "with top-64 and tail": lambda: answer(64),
        "cache written, fast": lambda: write("fast"),
        "cache written, small": lambda: write("small"),
    }
    tokens = answer(0)
    for run in runs.values():
        run()  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    report.say(f"{TEACHER}: {num_prompts} prompts, {tokens} new tokens, greedy, {turns} turns")
    bare = min(seconds["answers alone"])
    for name, values in seconds.items():
        best = min(values)
        report.say(
            f"{name:22} {best:7.2f} s best, {np.median(values):7.2f} s median, "
            f"{tokens / best:7.0f} tokens/s, {100 * (best / bare - 1):+6.1f} % of the bare answers"
        )


def tiny_model() -> LocalModel:
    """A random model of two layers with the embedded teacher's tokenizer."""
    mesh = make_mesh({}, jax.devices()[:1])
    tokenizer = load_tokenizer(TEACHER)
    config = PRESETS["tiny"]
    config = type(config)(**{**vars(config), "num_layers": 2, "vocab_size": len(tokenizer)})
    with jax.set_mesh(mesh):
        decoder = Decoder(config, nnx.Rngs(0))
    loaded = LoadedModel(decoder, tokenizer, "random", "random")
    return LocalModel.on_mesh(loaded, mesh, tokens_per_batch=2048)


def victim(directory: pathlib.Path) -> None:
    """Captures, saying which shard is begun."""
    jax.config.update("jax_compilation_cache_dir", str(directory.parent / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    model = tiny_model()
    local_answers.reject_reason = lambda *args, **options: None  # it writes nothing worth learning
    manifest = manifest_of(model, VICTIM_PROMPTS, records_per_shard=VICTIM_SHARD, top_k=16)
    begin = CacheWriter.begin_shard

    def saying(writer: CacheWriter, shard: int):
        print(shard, flush=True)
        return begin(writer, shard)

    CacheWriter.begin_shard = saying  # type: ignore[method-assign]
    capture(answers_of(model, manifest), prompts(VICTIM_PROMPTS), directory, manifest)


def files_of(directory: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def finished_shards(directory: pathlib.Path) -> set[int]:
    """Shards whose log is there; a log is written last."""
    return {int(path.name.split("-")[1]) for path in directory.glob("shard-*.json")}


def kills(report: Report, count: int) -> None:
    chance = random.Random(0)
    command = [sys.executable, __file__, "--victim"]
    most_redone = killed = runs = completed = 0
    with tempfile.TemporaryDirectory() as folder:
        whole = pathlib.Path(folder) / "whole"
        subprocess.run([*command, str(whole)], check=True, capture_output=True)
        expected = files_of(whole)
        while killed < count:
            directory = pathlib.Path(folder) / f"run-{completed}"
            while True:
                runs += 1
                process = subprocess.Popen(
                    [*command, str(directory)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
                assert process.stdout is not None
                begun = [int(process.stdout.readline() or -1)]
                time.sleep(chance.uniform(0, 1.5))
                if killed < count:
                    process.send_signal(signal.SIGKILL)
                begun += map(int, process.communicate()[0].split())
                if process.returncode == 0:
                    break
                assert process.returncode == -signal.SIGKILL, "it failed on its own"
                killed += 1
                most_redone = max(most_redone, len(set(begun) - finished_shards(directory)))
            completed += 1
            assert files_of(directory) == expected, "other bytes than uninterrupted"
            assert verify(directory).num_repeated_keys == 0
    report.say(
        f"{killed} of {runs} captures killed; at most {most_redone} shard redone after a kill; "
        f"{completed} caches completed, all byte-identical to an uninterrupted one, no duplicates"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=96, help="of the overhead; 0 skips it")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--kills", type=int, default=0, help="kill -9 of a capturing process")
    parser.add_argument("--report", metavar="NOTE", help="write a dated report with this note")
    parser.add_argument("--victim", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.victim:
        victim(arguments.victim)
        return
    report = Report("capture", packages=("jax", "numpy", "array_record"))
    if arguments.prompts:
        overhead(report, arguments.prompts, arguments.turns)
    if arguments.kills:
        kills(report, arguments.kills)
    if arguments.report is not None:
        print(report.write(arguments.report))


if __name__ == "__main__":
    main()
