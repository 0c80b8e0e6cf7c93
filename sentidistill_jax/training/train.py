"""The training loop; reads from top to bottom."""

import functools
import operator
import pathlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tqdm import tqdm

from sentidistill_jax import sharding
from sentidistill_jax.checkpoint import Checkpoints
from sentidistill_jax.data.loader import BatchShape, PackedBatches, iterate
from sentidistill_jax.data.teacher_cache import (
    TEXT_MODE,
    CacheMismatchError,
    CacheReader,
    open_cache,
)
from sentidistill_jax.errors import Interrupted, NonFiniteLossError
from sentidistill_jax.metric_writer import MetricWriter
from sentidistill_jax.models.load import LoadedModel, load_model, tokenizer_fingerprint
from sentidistill_jax.models.prune import keep_layers
from sentidistill_jax.settings import Config, compute_dtype
from sentidistill_jax.training.objectives import Objective
from sentidistill_jax.training.optimizer import make_optimizer, make_schedule, trainable_filter
from sentidistill_jax.training.train_step import TrainState, train_step

# Fields that count something there must be at least one of.
_COUNTS = (
    "data.global_batch_size", "data.micro_batches", "data.epochs", "log_interval",
    "checkpoint.interval", "checkpoint.keep",
)  # fmt: skip


def check_batch_size(config: Config, mesh: jax.sharding.Mesh) -> None:
    """Refuses counts below one, and batches that do not divide over mesh and micro-batches.

    Raises:
      ValueError: Names the field, or the sizes and the nearest that would do.
    """
    for name in _COUNTS:
        count = operator.attrgetter(name)(config)
        if count < 1:
            raise ValueError(f"{name}={count} must be at least 1.")
    rows, micro = config.data.global_batch_size, config.data.micro_batches
    ways = sharding.batch_rows(mesh) * micro
    if rows % ways:
        raise ValueError(
            f"data.global_batch_size={rows} must be a multiple of {ways} (mesh axes data x fsdp ="
            f" {sharding.batch_rows(mesh)}, times data.micro_batches = {micro}); try"
            f" {-(-rows // ways) * ways}."
        )


def check_targets(objective: Objective, readers: Sequence[CacheReader]) -> None:
    """Refuses a token divergence from a teacher of which only the text is known.

    Raises:
      CacheMismatchError: If a cache has mode `text` and alpha is above 0.
    """
    if objective.alpha > 0 and any(reader.manifest.mode == TEXT_MODE for reader in readers):
        raise CacheMismatchError(
            "of a served teacher",
            [
                f"it holds text alone, and objective.alpha={objective.alpha} needs distributions;"
                " set --config.objective.alpha=0"
            ],
        )


def load_student(config: Config, mesh: jax.sharding.Mesh) -> LoadedModel:
    """The student before training, as `config.student` describes it."""
    student = config.student
    dtype = compute_dtype("student", student.dtype)
    loaded = load_model(student.source, mesh, dtype=dtype, remat=student.remat)
    if not student.layers:
        return loaded
    with jax.set_mesh(mesh):
        decoder = keep_layers(loaded.decoder, student.layers)
    return LoadedModel(decoder, loaded.tokenizer, loaded.fingerprint, loaded.source)


def train(
    config: Config,
    caches: Sequence[pathlib.Path],
    workdir: pathlib.Path,
    *,
    on_start: Callable[[], None] = lambda: None,
) -> LoadedModel:
    """Trains a student from teacher caches.

    Args:
      config: See configs/base.py; locked.
      caches: Directories of finished teacher caches; together they are one epoch.
      workdir: Gets checkpoints and metrics; a run that is found there is resumed.
      on_start: Called once all settings have been checked, before anything is written.

    Returns:
      The trained student.

    Raises:
      ValueError: If sizes do not fit one another.
      CacheMismatchError: If a cache was made for another tokenizer or lacks a temperature.
      NonFiniteLossError: If the loss or the gradient stops being finite.
      Interrupted: After SIGTERM or SIGINT, once the state is saved.
    """
    # 1. Mesh and sizes.
    mesh = sharding.make_mesh(config.mesh)
    check_batch_size(config, mesh)

    # 2. Student, and the caches it learns from.
    student = load_student(config, mesh)
    expect = {"tokenizer_fingerprint": tokenizer_fingerprint(student.tokenizer)}
    objective = Objective(**config.objective.to_dict())
    readers = [open_cache(cache, expect=expect) for cache in caches]
    check_targets(objective, readers)
    batches = PackedBatches(
        readers,
        BatchShape(
            config.data.global_batch_size, config.data.seq_length, config.data.scored_length
        ),
        epochs=config.data.epochs,
        seed=config.seed,
        temperature=objective.temperature,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    total_steps = len(batches)

    # 3. Optimizer and state.
    optimizer = make_optimizer(
        config.optimizer.name,
        make_schedule(
            config.optimizer.schedule,
            peak=config.optimizer.learning_rate,
            warmup_steps=round(config.optimizer.warmup_fraction * total_steps),
            total_steps=total_steps,
            final_fraction=config.optimizer.final_fraction,
        ),
        weight_decay=config.optimizer.weight_decay,
        clip_norm=config.optimizer.clip_norm,
    )
    trainable = trainable_filter(config.optimizer.frozen)
    graphdef, params, frozen = nnx.split(student.decoder, trainable, ...)
    with jax.set_mesh(mesh):
        state = TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            frozen=frozen,
            optimizer_state=jax.jit(optimizer.init)(params),
        )

    # 4. Resume.
    on_start()
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.checkpoint.keep)
    if checkpoints.latest is not None:
        state, _ = checkpoints.restore(state)
    start_step = int(state.step)
    writer = MetricWriter(workdir, resume_step=start_step)

    # 5. The loop. Metrics of a step are fetched while the next one runs.
    step_fn = jax.jit(
        functools.partial(
            train_step,
            graphdef=graphdef,
            optimizer=optimizer,
            objective=objective,
            num_kinds=len(batches.kinds),
            micro_batches=config.data.micro_batches,
            mesh=mesh if mesh.size > 1 else None,
        ),
        donate_argnums=(0,),
    )
    bar = tqdm(
        total=total_steps, initial=start_step, desc=f"train {config.stage}", unit="step",
        mininterval=1.0, disable=jax.process_index() != 0,
    )  # fmt: skip
    last_saved = start_step
    pending: tuple[int, Any] | None = None
    with (
        closing(checkpoints),
        closing(writer),
        closing(bar),
        jax.set_mesh(mesh),
        _StopSignals() as stop,
    ):
        since = time.perf_counter()
        step = start_step
        for batch in iterate(batches, mesh, start_step=start_step):
            state, metrics = step_fn(state, batch)
            step += 1
            if pending is not None:
                since = _report(pending, batches, config, writer, bar, since, last_saved)
            pending = (step, metrics)
            if stop.requested is not None:
                break
            if step % config.checkpoint.interval == 0 and step < total_steps:
                # Only a state whose loss was finite is worth keeping.
                since = _report(pending, batches, config, writer, bar, since, last_saved)
                pending = None
                checkpoints.save(step, state, config.to_dict())
                last_saved = step
        if pending is not None:
            _report(pending, batches, config, writer, bar, since, last_saved)
            checkpoints.save(step, state, config.to_dict())
    if stop.requested is not None:
        raise Interrupted(
            f"stopped by {stop.requested.name} after step {int(state.step)} of {total_steps}, which"
            f" is saved in {workdir}; run the same command again to go on."
        )
    decoder = nnx.merge(graphdef, state.params, state.frozen)
    return LoadedModel(decoder, student.tokenizer, student.fingerprint, str(workdir))


def _report(
    pending: tuple[int, Any],
    batches: PackedBatches,
    config: Config,
    writer: MetricWriter,
    bar: tqdm,
    since: float,
    last_saved: int,
) -> float:
    """Fetches one step's metrics, checks and writes them; returns the time of doing so."""
    step, metrics = pending
    metrics = jax.device_get(metrics)
    now = time.perf_counter()
    if not (np.isfinite(metrics["loss"]) and np.isfinite(metrics["gradient_norm"])):
        raise NonFiniteLossError(
            f"step {step}: loss {metrics['loss']}, gradient norm {metrics['gradient_norm']}; the"
            f" last good checkpoint is {f'step {last_saved}' if last_saved else 'none'}; lower"
            " optimizer.learning_rate or optimizer.clip_norm."
        )
    scalars = scalars_of(metrics, batches.kinds)
    scalars["train/seconds_per_step"] = now - since
    if step % config.log_interval == 0 or step == len(batches):
        writer.write(step, scalars)
    bar.set_postfix_str(
        f"loss {scalars['train/loss']:.3f}, ce {scalars['train/ce_nats']:.3f} nats", refresh=False
    )
    bar.update(1)
    return now


def scalars_of(metrics: Mapping[str, np.ndarray], kinds: Sequence[str]) -> dict[str, float]:
    """Named averages from the sums of a step; kinds without a token in it are left out."""
    scalars = {
        "train/loss": float(metrics["loss"]),
        "train/gradient_norm": float(metrics["gradient_norm"]),
        "train/completion_tokens": float(metrics["tokens"].sum()),
    }
    for term, count in (("ce", "tokens"), ("divergence", "tokens"), ("label_kl", "answers")):
        counts = metrics[count]
        if counts.sum():
            scalars[f"train/{term}_nats"] = float(metrics[term].sum() / counts.sum())
        for kind, total, n in zip(kinds, metrics[term], counts, strict=True):
            if n:
                scalars[f"train/{kind}/{term}_nats"] = float(total / n)
    return scalars


class _StopSignals:
    """Turns SIGTERM and SIGINT into a request that the loop answers between two steps."""

    def __enter__(self) -> "_StopSignals":
        self.requested: signal.Signals | None = None
        self._previous = {
            number: signal.signal(number, self._request)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def _request(self, number: int, frame: Any) -> None:
        del frame
        self.requested = signal.Signals(number)

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
