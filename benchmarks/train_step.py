"""What a distillation step costs beside plain cross entropy, and beside PyTorch.

Student, batch, length and optimizer (AdamW, global-norm clipping) are the same everywhere. Sides
take turns, a few steps each, so that whatever else slows the machine slows all of them.

  distill   the training step of this project: cross entropy and forward KL against a teacher cache
            that is read, packed and placed on the way
  plain     the same step and the same fused head with cross entropy alone, its batch at hand
  forward   loss without gradients
  peer      PyTorch and transformers: `model(tokens, labels)`, fused AdamW, eager

The first part of each row is prompt. This project scores completions only; transformers computes
the logits of every position and masks the loss. `--scored` equal to `--seq` - 1 gives both the same
head work.
"""

import argparse
import contextlib
import functools
import gc
import json
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
import optax
from torch_peer import Ask, torch_peer

from sentidistill_jax.cpu_workarounds import keep_freed_memory
from sentidistill_jax.data.batch import Batch
from sentidistill_jax.data.loader import BatchShape, PackedBatches, iterate
from sentidistill_jax.data.teacher_cache import (
    CacheManifest,
    CacheRecord,
    CacheWriter,
    SparseTargets,
    open_cache,
    record_key,
)
from sentidistill_jax.export import export
from sentidistill_jax.models.load import load_model
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.training.distill_loss import DistillTargets, LossTerms
from sentidistill_jax.training.fused_head import fused_distill_loss
from sentidistill_jax.training.objectives import CachedObjective
from sentidistill_jax.training.optimizer import make_optimizer
from sentidistill_jax.training.train_step import TrainState, init_state, train_step
from sentidistill_jax.training.trainable import Trainable, take_apart


def write_cache(
    directory: pathlib.Path, options: argparse.Namespace, num_records: int, vocab: int
) -> None:
    """Sequences that fill a row each, with random targets."""
    rng = np.random.default_rng(0)
    manifest = CacheManifest(
        teacher_fingerprint="benchmark",
        tokenizer_fingerprint="benchmark",
        chat_template_fingerprint="benchmark",
        corpus_fingerprint="benchmark",
        vocab_size=vocab,
        top_k=options.k,
        mode="top_k",
        temperatures=(1.0,),
        codec="fast",
        num_prompts=num_records,
        records_per_shard=num_records,
        config={},
    )

    def record() -> CacheRecord:
        tokens = rng.integers(1, vocab, options.seq, dtype=np.int32)
        shape = (options.scored, options.k)
        ids = np.cumsum(rng.integers(1, vocab // options.k, shape), axis=1) - 1
        outcomes = rng.normal(0, 2, (options.scored, options.k + 1))
        outcomes -= np.logaddexp.reduce(outcomes, axis=1, keepdims=True)
        return CacheRecord(
            key=record_key("benchmark", tokens, tokens),
            prompt_id="random",
            kind="random",
            tokens=tokens,
            completion_start=options.seq - options.scored,
            targets=SparseTargets(
                counts=np.full((options.scored,), options.k, np.int32),
                ids=ids.astype(np.int32).reshape(-1),
                logprobs=outcomes[:, :-1].astype(np.float32).reshape(-1),
                tail_logprobs=outcomes[:, -1:].astype(np.float32),
            ),
            labels=None,
        )

    writer = CacheWriter(directory, manifest)
    writer.write_shard(0, [record() for _ in range(num_records)])
    writer.finish()


def plain_loss(parts: Trainable, params: Any, frozen: Any, batch: Batch) -> jax.Array:
    """Mean cross entropy of the scored positions, through the fused head."""
    model = parts.assemble(params, frozen)
    hidden, _ = model(batch.tokens, batch.positions, segment_ids=batch.segment_ids)
    scored = jnp.take_along_axis(hidden, batch.scored[:, :, None], axis=1)
    weight = (batch.loss_mask / jnp.sum(batch.loss_mask)).reshape(-1)
    loss, _ = fused_distill_loss(
        scored.reshape(len(weight), -1),
        model.head_weight,
        DistillTargets(batch.targets.reshape(-1)),
        LossTerms(weight),
    )
    return loss


def plain_step(
    state: TrainState, batch: Batch, *, parts: Trainable, optimizer: optax.GradientTransformation
) -> tuple[TrainState, jax.Array]:
    """`train_step` with `plain_loss`."""
    loss, gradients = jax.value_and_grad(functools.partial(plain_loss, parts))(
        state.params, state.frozen, batch
    )
    updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, state.frozen, optimizer_state), loss


class Ours:
    """This project's side, in one compute dtype and with one remat policy."""

    def __init__(self, dtype: str, remat: str, options: argparse.Namespace, cache: pathlib.Path):
        self._mesh = make_mesh({"data": 1}, jax.devices()[:1])
        model = load_model(options.student, self._mesh, dtype=jnp.dtype(dtype), remat=remat)
        parts = take_apart(model.decoder, self._mesh)
        optimizer = make_optimizer("adamw", lambda _: 1e-5, weight_decay=0.01, clip_norm=1.0)
        self._state = init_state(parts.params, parts.frozen, optimizer, self._mesh)
        self._batches = PackedBatches(
            [open_cache(cache)],
            BatchShape(options.rows, options.seq, options.scored),
            epochs=1,
            seed=0,
        )
        self._batch = next(iterate(self._batches, self._mesh, start_step=0))
        distill = functools.partial(
            train_step,
            assemble=parts.assemble,
            optimizer=optimizer,
            objective=CachedObjective(alpha=0.5),
            num_kinds=1,
            total_steps=len(self._batches),
        )
        plain = functools.partial(plain_step, parts=parts, optimizer=optimizer)
        self._steps = {
            "distill": jax.jit(distill, donate_argnums=0),
            "plain": jax.jit(plain, donate_argnums=0),
        }
        self._forward = jax.jit(functools.partial(plain_loss, parts))

    def seconds(self, what: str, steps: int) -> float:
        """Time of so many steps."""
        with jax.set_mesh(self._mesh):
            start = time.perf_counter()
            if what == "forward":
                for _ in range(steps):
                    loss = self._forward(self._state.params, self._state.frozen, self._batch)
            else:
                reading = iter([self._batch] * steps)
                if what == "distill":
                    reading = iterate(self._batches, self._mesh, start_step=0)
                for _ in range(steps):
                    self._state, loss = self._steps[what](self._state, next(reading))
            jax.block_until_ready(loss)
            return time.perf_counter() - start


def export_student(options: argparse.Namespace, folder: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The weights and the tokens that PyTorch trains on."""
    model = load_model(options.student, make_mesh({"data": 1}, jax.devices()[:1]))
    export(model, folder / "student")
    tokens = np.random.default_rng(0).integers(
        1, model.decoder.config.vocab_size, (options.rows, options.seq)
    )
    (folder / "tokens.json").write_text(json.dumps(tokens.tolist()))
    return folder / "student", folder / "tokens.json"


def torch_seconds(ask: Ask, what: str, dtype: str, steps: int) -> float:
    """What so many steps take PyTorch."""
    return ask(what=what, dtype=dtype, steps=steps)["seconds"]


def median(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--student", default="smollm2-135m-instruct")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--seq", type=int, default=192)
    parser.add_argument("--scored", type=int, default=96, help="positions of a row, at its end")
    parser.add_argument("--k", type=int, default=32, help="teacher entries of a position")
    parser.add_argument(
        "--dtypes",
        nargs="+",
        default=["float32:dots", "bfloat16:full"],
        help="compute dtype, and this project's remat policy after a colon",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="of each side in a round")
    parser.add_argument("--fresh-memory", action="store_true", help="no keep_freed_memory()")
    parser.add_argument("--peer", action="store_true", help="also PyTorch and transformers")
    options = parser.parse_args()
    tokens = options.rows * options.seq * options.steps
    if not options.fresh_memory:
        keep_freed_memory()

    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cache = folder / "cache"
        write_cache(cache, options, options.rows * options.steps, vocab=49_000)
        ask = None
        if options.peer:
            arguments = (*export_student(options, folder), options.scored, os.cpu_count())
            gc.collect()
            ask = stack.enter_context(torch_peer("train_step_torch.py", *arguments))
        print(
            f"{time.strftime('%Y-%m-%d')}, jax {jax.__version__}, {os.cpu_count()} cores of"
            f" {platform.processor() or platform.machine()}; {options.student}, {options.rows} x"
            f" {options.seq} tokens, {options.scored} scored, {options.rounds} rounds of"
            f" {options.steps} steps: median (range)\n"
        )
        print("| dtype | side | tokens/s | of the other |\n|---|---|---|---|")
        for setting in options.dtypes:
            dtype, _, remat = setting.partition(":")
            ours = Ours(dtype, remat or "none", options, cache)
            sides = {
                name: functools.partial(ours.seconds, name)
                for name in ("distill", "plain", "forward")
            }
            if ask is not None:
                for what in ("train", "forward"):
                    sides[f"peer {what}"] = functools.partial(torch_seconds, ask, what, dtype)
            for side in sides.values():
                side(1)  # compiles, warms up
            rates: dict[str, list[float]] = {name: [] for name in sides}
            for _ in range(options.rounds):
                for name, side in sides.items():
                    rates[name].append(tokens / side(options.steps))
            against = {"distill": "plain", "plain": "peer train", "forward": "peer forward"}
            for name, values in rates.items():
                other = against.get(name, "")
                ratio = ""
                if other in rates:
                    pairs = zip(values, rates[other], strict=True)
                    ratio = f"{median([a / b for a, b in pairs])} of {other}"
                print(f"| {setting} | {name} | {median(values)} | {ratio} |", flush=True)
            del ours, sides
            gc.collect()


if __name__ == "__main__":
    main()
