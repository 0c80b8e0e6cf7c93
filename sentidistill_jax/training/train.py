"""The training loop; reads from top to bottom."""

import dataclasses
import functools
import pathlib
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from tqdm import tqdm

from sentidistill_jax import sharding
from sentidistill_jax.checkpoint import Checkpoints
from sentidistill_jax.data.loader import BatchShape, PackedBatches, iterate
from sentidistill_jax.data.teacher_cache import open_cache
from sentidistill_jax.data.vocabulary_map import check_tokens
from sentidistill_jax.distributed import is_process_zero, watchdog
from sentidistill_jax.errors import Interrupted, NonFiniteLossError, Preempted, storage_errors
from sentidistill_jax.metric_writer import MetricWriter
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.flops import train_step_flops
from sentidistill_jax.models.load import LoadedModel
from sentidistill_jax.settings import float_dtype
from sentidistill_jax.training.objectives import Objective, make_objective
from sentidistill_jax.training.optimizer import make_optimizer, make_schedule
from sentidistill_jax.training.stop_signals import StopSignals
from sentidistill_jax.training.student import cache_of
from sentidistill_jax.training.throughput import (
    Speed,
    StepProfiler,
    device_memory,
    peak_flops,
)
from sentidistill_jax.training.train_step import TrainState, init_state, jit_step, train_step
from sentidistill_jax.training.trainable import Lora, take_apart

Section = Mapping[str, Any]  # of a config, as a plain dict


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """The part of a config that training reads, with the names of configs/base.py."""

    data: Section
    objective: Section
    optimizer: Section
    lora: Section
    checkpoint: Section
    param_dtype: str  # of the section `student`
    seed: int
    log_interval: int
    profile_steps: Sequence[int]
    peak_tflops: float

    @classmethod
    def of(cls, config: Any) -> "TrainSettings":
        """Takes it out of a whole config."""
        values = config.to_dict()
        names = {field.name for field in dataclasses.fields(cls)} & values.keys()
        taken = {name: values[name] for name in names}
        return cls(param_dtype=values["student"]["param_dtype"], **taken)

    @property
    def shape(self) -> BatchShape:
        """Sizes of a batch."""
        return BatchShape(**{f.name: self.data[f.name] for f in dataclasses.fields(BatchShape)})


@dataclasses.dataclass(frozen=True)
class CacheSource:
    """A finished teacher cache to learn from."""

    directory: pathlib.Path
    weight: float = 1.0  # factor of the loss of its tokens
    # What it must have been made from, beside what the student tells; see `open_cache`.
    expect: Mapping[str, object] = dataclasses.field(default_factory=dict)


def check_batch_size(settings: TrainSettings, mesh: Mesh) -> None:
    """Refuses counts below one, and batches that do not divide over mesh and micro-batches.

    Raises:
      ValueError: Names the field, or the sizes and the nearest that would do.
    """
    counts = {
        "log_interval": settings.log_interval,
        **{f"data.{n}": settings.data[n] for n in ("global_batch_size", "micro_batches", "epochs")},
        **{f"checkpoint.{n}": settings.checkpoint[n] for n in ("interval", "keep")},
    }
    for name, count in counts.items():
        least = 0 if name == "data.epochs" else 1  # a student that is cut and not trained
        if count < least:
            raise ValueError(f"{name}={count} must be at least {least}.")
    rows, micro = settings.data["global_batch_size"], settings.data["micro_batches"]
    parts = sharding.data_parallel_degree(mesh) * micro
    if rows % parts:
        raise ValueError(
            f"data.global_batch_size={rows} must be a multiple of {parts} (mesh axes data x fsdp ="
            f" {sharding.data_parallel_degree(mesh)}, times data.micro_batches = {micro}); try"
            f" {-(-rows // parts) * parts}."
        )


def train(
    student: LoadedModel,
    caches: Sequence[CacheSource],
    settings: TrainSettings,
    workdir: pathlib.Path,
    mesh: Mesh,
    *,
    on_start: Callable[[], None] = lambda: None,
    interval: int = 0,
    on_interval: Callable[[int, LoadedModel], Mapping[str, float]] | None = None,
) -> LoadedModel:
    """Trains a student from teacher caches.

    Args:
      student: Consumed: training takes the memory of its parameters.
      caches: Together they are one epoch.
      settings: See configs/base.py.
      workdir: Gets checkpoints and metrics; a run that is found there is resumed.
      mesh: Where the student is.
      on_start: Called once all settings have been checked, before anything is written.
      interval: Steps between calls of `on_interval`; one follows the last step as well.
      on_interval: Looks at what would be exported after a step; returns metrics to be
        written. It must not keep the parameters: the next step takes their memory.

    Returns:
      The trained student.

    Raises:
      ValueError: If sizes do not fit one another, or a setting means nothing.
      CacheMismatchError: If a cache is incomplete or not one that this student can learn from.
      NonFiniteLossError: If the loss or the gradient stops being finite.
      StorageError: If the disk or mount fails under the loop.
      Interrupted: After SIGTERM or SIGINT, once the state is saved.
    """
    # 1. Data and objective.
    check_batch_size(settings, mesh)
    objective, batches = _learned_from(student, caches, settings, mesh)
    total_steps = len(batches)

    # 2. Optimizer and state.
    optimizer = _optimizer(settings.optimizer, total_steps)
    parts = take_apart(
        student.decoder,
        mesh,
        frozen=settings.optimizer["frozen"],
        param_dtype=float_dtype("student.param_dtype", settings.param_dtype),
        adapters=Lora(**settings.lora) if settings.lora["rank"] else None,
        seed=settings.seed,
    )
    ema_decay, teacher = settings.optimizer["ema_decay"], objective.teacher
    initial = functools.partial(init_state, average=ema_decay > 0, teacher=teacher)
    with jax.set_mesh(mesh):
        state = initial(parts.params, parts.frozen, optimizer, mesh)

    def student_of(state: TrainState) -> LoadedModel:
        """What is exported and evaluated: the averaged parameters, if an average is kept."""
        params = state.params if state.average is None else state.average
        return dataclasses.replace(student, decoder=parts.merge(params, state.frozen))

    # 3. Resume.
    profiler = StepProfiler(settings.profile_steps, workdir / "profile")
    on_start()
    keep, keep_every = settings.checkpoint["keep"], settings.checkpoint["keep_every"]
    checkpoints = Checkpoints(workdir / "checkpoints", keep=keep, keep_every=keep_every)
    # A teacher is not saved: nothing changes it.
    restored = checkpoints.restore(dataclasses.replace(state, teacher=None))
    if restored is not None:
        state = dataclasses.replace(restored[0], teacher=state.teacher)
    step = int(state.step)
    if step and is_process_zero():
        print(f"{workdir.name}: goes on after step {step} of {workdir}", flush=True)
    speed = _speed(student.decoder, parts.params, settings, mesh)
    reports = _Reports(workdir, batches, settings.log_interval, speed, step)

    def save() -> None:
        kept = dataclasses.replace(state, teacher=None)
        checkpoints.save(step, kept, dataclasses.asdict(settings))
        reports.last_saved = step

    # 4. The loop. Metrics of a step are fetched while the next one runs.
    step_of = functools.partial(
        train_step,
        assemble=parts.assemble,
        optimizer=optimizer,
        objective=objective,
        num_kinds=len(batches.kinds),
        total_steps=total_steps,
        ema_decay=ema_decay,
        micro_batches=settings.data["micro_batches"],
        mesh=mesh if mesh.size > 1 else None,
    )
    step_fn = jit_step(step_of, state, mesh)
    with (
        storage_errors(), closing(checkpoints), closing(reports), closing(profiler),
        jax.set_mesh(mesh), StopSignals(mesh) as stop, watchdog() as begin_step,
    ):  # fmt: skip
        speed.start()
        for batch in iterate(batches, mesh, start_step=step):
            begin_step()
            profiler.before(step + 1)
            state, metrics = step_fn(state, batch)
            step += 1
            profiler.after(step, state)
            reports.push(step, metrics)
            # Only a state whose loss was finite is worth a look, or keeping: hence `flush`.
            if on_interval and interval and (step % interval == 0 or step == total_steps):
                reports.flush()
                begin_step()
                reports.write(step, on_interval(step, student_of(state)))
            begin_step()
            if stop.agreed():
                break
            if step % settings.checkpoint["interval"] == 0 and step < total_steps:
                reports.flush()
                begin_step()
                save()
        reports.flush()
        if step > reports.last_saved:
            save()
    if stop.reason is not None:
        raise _stopped(stop.reason, f"step {step} of {total_steps}", workdir)
    return dataclasses.replace(student_of(state), source=str(workdir))


def _learned_from(
    student: LoadedModel, caches: Sequence[CacheSource], settings: TrainSettings, mesh: Mesh
) -> tuple[Objective, PackedBatches]:
    """The objective, and this process's part of its batches, once all is found to fit."""
    objective = make_objective(settings.objective)
    of_student = cache_of(student)
    readers = [open_cache(one.directory, expect={**of_student, **one.expect}) for one in caches]
    new_ids = None if student.trimmed is None else student.trimmed.new_ids
    if new_ids is not None:
        check_tokens(readers, new_ids)
    objective = objective.for_caches(readers)
    part, num_parts = sharding.batch_part(mesh)
    batches = PackedBatches(
        readers,
        settings.shape,
        epochs=settings.data["epochs"],
        seed=settings.seed,
        temperatures=objective.temperatures,
        cache_weights=[cache.weight for cache in caches],
        kind_weights=settings.data["kind_weights"],
        new_ids=new_ids,
        process_index=part,
        process_count=num_parts,
    )
    if batches.num_too_long and is_process_zero():
        print(
            f"data: {batches.num_too_long} sequences of {batches.num_sequences} more are left out,"
            f" longer than seq_length={settings.shape.seq_length} or"
            f" scored_length={settings.shape.scored_length}"
        )
    return objective, batches


def _optimizer(settings: Section, total_steps: int) -> optax.GradientTransformation:
    """The optimizer that a config's section describes, for a run of so many steps."""
    if not 0 <= settings["ema_decay"] < 1:
        raise ValueError(f"optimizer.ema_decay={settings['ema_decay']} must be in [0, 1).")
    return make_optimizer(
        settings["name"],
        make_schedule(
            settings["schedule"],
            peak=settings["learning_rate"],
            warmup_steps=round(settings["warmup_fraction"] * total_steps),
            total_steps=total_steps,
            final_fraction=settings["final_fraction"],
            decay_steps=round(settings["decay_fraction"] * total_steps),
        ),
        weight_decay=settings["weight_decay"],
        clip_norm=settings["clip_norm"],
        momentum_dtype=float_dtype("optimizer.momentum_dtype", settings["momentum_dtype"]),
    )


def _speed(model: Decoder, params: Any, settings: TrainSettings, mesh: Mesh) -> Speed:
    """A clock that knows what a step needs and what the devices can do."""
    rows, seq, scored = dataclasses.astuple(settings.shape)
    flops = train_step_flops(model.config, params, rows=rows, seq_length=seq, scored_length=scored)
    return Speed(flops, mesh.size * (settings.peak_tflops * 1e12 or peak_flops(model.dtype)))


def _stopped(reason: signal.Signals, where: str, workdir: pathlib.Path) -> Interrupted:
    """The error that ends a run which was asked to stop; its state is saved."""
    kind = Preempted if reason == signal.SIGTERM else Interrupted
    return kind(
        f"stopped by {reason.name} after {where}, which is saved in {workdir}; run the same command"
        " again to go on."
    )


class _Reports:
    """Checks and writes the metrics of each step while the next one runs.

    Args:
      workdir: Gets the metrics.
      batches: Of the run.
      log_interval: Steps between lines of metrics; the last step has one too.
      speed: Times each step.
      last_saved: Step of the newest checkpoint; 0: there is none.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        batches: PackedBatches,
        log_interval: int,
        speed: Speed,
        last_saved: int,
    ):
        self.last_saved = last_saved
        self._kinds, self._total_steps = batches.kinds, len(batches)
        self._log_interval = log_interval
        self._speed = speed
        self._writer = MetricWriter(workdir, resume_step=last_saved)
        self._bar = tqdm(
            total=len(batches), initial=last_saved, desc=f"train {workdir.name}", unit="step",
            mininterval=1.0, disable=jax.process_index() != 0,
        )  # fmt: skip
        self._pending: tuple[int, Any] | None = None

    def push(self, step: int, metrics: Any) -> None:
        """Takes the metrics of a step, which may still be computed, and reports the one before."""
        self.flush()
        self._pending = step, metrics

    def flush(self) -> None:
        """Waits for the step that was taken last and reports it, unless that was done.

        Raises:
          NonFiniteLossError: If its loss or gradient is not finite.
        """
        if self._pending is None:
            return
        step, metrics = jax.device_get(self._pending)
        self._pending = None
        if not (np.isfinite(metrics["loss"]) and np.isfinite(metrics["gradient_norm"])):
            last_good = f"step {self.last_saved}" if self.last_saved else "none"
            raise NonFiniteLossError(
                f"step {step}: loss {metrics['loss']}, gradient norm {metrics['gradient_norm']};"
                f" the last good checkpoint is {last_good}; lower optimizer.learning_rate or"
                " optimizer.clip_norm."
            )
        scalars = scalars_of(metrics, self._kinds)
        scalars |= self._speed.scalars(int(metrics["positions"]))
        if step % self._log_interval == 0 or step == self._total_steps:
            self._writer.write(step, scalars | device_memory())
        self._bar.set_postfix_str(f"loss {scalars['train/loss']:.3f}", refresh=False)
        self._bar.update(1)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds what was found between two steps; the time that it took is no step's."""
        self._writer.write(step, scalars)
        self._speed.start()

    def close(self) -> None:
        """Closes the file and the bar."""
        self._writer.close()
        self._bar.close()


def scalars_of(metrics: Mapping[str, Any], kinds: Sequence[str]) -> dict[str, float]:
    """Named averages from the sums of a step; kinds without a token in it are left out."""
    names = ("loss", "gradient_norm", "completion_tokens")
    scalars = {f"train/{name}": float(metrics[name]) for name in names}
    for name, (totals, counts) in metrics["means"].items():
        if counts.sum():
            scalars[f"train/{name}"] = float(totals.sum() / counts.sum())
        for kind, total, count in zip(kinds, totals, counts, strict=True):
            if count:
                scalars[f"train/{kind}/{name}"] = float(total / count)
    return scalars
