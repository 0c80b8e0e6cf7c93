"""The training loop; reads from top to bottom."""

import dataclasses
import functools
import operator
import pathlib
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from sentidistill_jax import sharding
from sentidistill_jax.artifact import fingerprint
from sentidistill_jax.checkpoint import Checkpoints
from sentidistill_jax.data.loader import BatchShape, PackedBatches, iterate
from sentidistill_jax.data.teacher_cache import (
    TEXT_MODE,
    CacheMismatchError,
    CacheReader,
    open_cache,
)
from sentidistill_jax.data.vocabulary_map import check_tokens
from sentidistill_jax.distributed import watched_loop
from sentidistill_jax.errors import Interrupted, NonFiniteLossError, Preempted
from sentidistill_jax.metric_writer import MetricWriter
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.load import LoadedModel, load_model
from sentidistill_jax.settings import Config, float_dtype
from sentidistill_jax.training.objectives import Objective
from sentidistill_jax.training.optimizer import make_optimizer, make_schedule
from sentidistill_jax.training.stop_signals import StopSignals
from sentidistill_jax.training.student import Cut, cut_student
from sentidistill_jax.training.throughput import (
    Speed,
    StepProfiler,
    device_memory,
    peak_flops,
    step_flops,
)
from sentidistill_jax.training.train_step import TrainState, init_state, jit_step, train_step
from sentidistill_jax.training.trainable import Lora, take_apart

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
      CacheMismatchError: If a cache has mode `text` and alpha is not 0 throughout.
    """
    for reader in readers:
        if objective.needs_distributions and reader.manifest.mode == TEXT_MODE:
            vocabularies = reader.manifest.config.get("vocabularies", {})
            why = "".join(
                f"; the {who}'s tokens are the {of['size']:,} of {of['source']}"
                for who, of in sorted(vocabularies.items(), reverse=True)
            )
            raise CacheMismatchError(
                "of a teacher's text",
                [
                    f"it holds no distributions, and objective.alpha={objective.alpha} needs"
                    f" them{why}; set --config.objective.alpha=0 and no alpha_schedule"
                ],
            )


def cut_of(config: Config) -> Cut:
    """What `config.student` keeps of its source."""
    student = config.student
    return Cut(
        layers=tuple(student.layers),
        num_layers=student.num_layers,
        layer_choice=student.layer_choice,
        widths=student.slice.to_dict(),
        vocabulary=student.vocabulary,
        vocabulary_size=student.vocabulary_size,
        measured_sequences=student.measured_sequences,
    )


def load_student(
    config: Config, mesh: jax.sharding.Mesh, caches: Sequence[pathlib.Path]
) -> LoadedModel:
    """The student before training, as `config.student` describes it.

    Args:
      config: See configs/base.py.
      mesh: Where its parameters go.
      caches: Directories of finished teacher caches, by which importance and tokens are found; not
        opened where neither is asked for.
    """
    student, cut = config.student, cut_of(config)
    dtype = float_dtype("student.dtype", student.dtype)
    loaded = load_model(student.source, mesh, dtype=dtype, remat=student.remat)
    expect = _expected_by(loaded)
    readers = [open_cache(cache, expect=expect) for cache in caches] if cut.needs_texts else []
    return cut_student(loaded, cut, readers, mesh)


def _expected_by(model: LoadedModel) -> dict[str, object]:
    """What the manifest of a cache must say so that a model can learn from it."""
    return {
        "tokenizer_fingerprint": model.cache_tokenizer,
        "chat_template_fingerprint": fingerprint(model.tokenizer.chat_template),
        "vocab_size": model.cache_vocab_size,
    }


def train(
    config: Config,
    caches: Sequence[pathlib.Path],
    workdir: pathlib.Path,
    *,
    cache_weights: Sequence[float] | None = None,
    expect: Sequence[Mapping[str, object]] | None = None,
    student_caches: Sequence[pathlib.Path] = (),
    on_start: Callable[[], None] = lambda: None,
    interval: int = 0,
    on_interval: Callable[[int, LoadedModel], Mapping[str, float]] | None = None,
) -> LoadedModel:
    """Trains a student from teacher caches.

    Args:
      config: See configs/base.py; locked.
      caches: Directories of finished teacher caches; together they are one epoch.
      workdir: Gets checkpoints and metrics; a run that is found there is resumed.
      cache_weights: Factor of the loss of each cache's tokens; 1 by default.
      expect: What each cache must have been made from, beside what the student tells; see
        `open_cache`.
      student_caches: Those by which the student is cut; `caches` by default.
      on_start: Called once all settings have been checked, before anything is written.
      interval: Steps between calls of `on_interval`, which the last step is followed by as well.
      on_interval: Looks at what would be exported after a step; returns metrics to be
        written. It must not keep the parameters: the next step takes their memory.

    Returns:
      The trained student.

    Raises:
      ValueError: If sizes do not fit one another, or a setting means nothing.
      CacheMismatchError: If a cache was made for another tokenizer, chat template or vocabulary or
        from something else than expected, lacks the tail at a temperature, or is incomplete.
      NonFiniteLossError: If the loss or the gradient stops being finite.
      Interrupted: After SIGTERM or SIGINT, once the state is saved.
    """
    # 1. Mesh and sizes.
    mesh = sharding.make_mesh(config.mesh)
    check_batch_size(config, mesh)

    # 2. Student, and the caches it learns from.
    student = load_student(config, mesh, student_caches or caches)
    of_student = _expected_by(student)
    readers = [
        open_cache(cache, expect={**of_student, **further})
        for cache, further in zip(caches, expect or [{}] * len(caches), strict=True)
    ]
    new_ids = None if student.trimmed is None else student.trimmed.new_ids
    if new_ids is not None:
        check_tokens(readers, new_ids)
    objective = Objective(**config.objective.to_dict())
    check_targets(objective, readers)
    shape = BatchShape(
        config.data.global_batch_size, config.data.seq_length, config.data.scored_length
    )
    part, num_parts = sharding.batch_part(mesh)
    batches = PackedBatches(
        readers,
        shape,
        epochs=config.data.epochs,
        seed=config.seed,
        temperatures=objective.temperatures,
        cache_weights=cache_weights,
        kind_weights=config.data.kind_weights.to_dict(),
        new_ids=new_ids,
        process_index=part,
        process_count=num_parts,
    )
    objective = dataclasses.replace(objective, sampled=batches.sampled)
    total_steps = len(batches)

    # 3. Optimizer and state.
    settings = config.optimizer
    optimizer = make_optimizer(
        settings.name,
        make_schedule(
            settings.schedule,
            peak=settings.learning_rate,
            warmup_steps=round(settings.warmup_fraction * total_steps),
            total_steps=total_steps,
            final_fraction=settings.final_fraction,
            decay_steps=round(settings.decay_fraction * total_steps),
        ),
        weight_decay=settings.weight_decay,
        clip_norm=settings.clip_norm,
        momentum_dtype=float_dtype("optimizer.momentum_dtype", settings.momentum_dtype),
    )
    if not 0 <= settings.ema_decay < 1:
        raise ValueError(f"optimizer.ema_decay={settings.ema_decay} must be in [0, 1).")
    parts = take_apart(
        student.decoder,
        mesh,
        frozen=settings.frozen,
        param_dtype=float_dtype("student.param_dtype", config.student.param_dtype),
        adapters=Lora(**config.lora.to_dict()) if config.lora.rank else None,
        seed=config.seed,
    )
    model_config, dtype = student.decoder.config, student.decoder.dtype
    model_of = functools.partial(
        LoadedModel,
        tokenizer=student.tokenizer,
        fingerprint=student.fingerprint,
        trimmed=student.trimmed,
        generation=student.generation,
    )
    source = student.source
    del student  # what was cast would lie in memory twice
    with jax.set_mesh(mesh):
        average = settings.ema_decay > 0
        state = init_state(parts.params, parts.frozen, optimizer, mesh, average=average)

    def student_of(state: TrainState) -> Decoder:
        """What is exported and evaluated: the averaged parameters, if an average is kept."""
        params = state.params if state.average is None else state.average
        return parts.merge(params, state.frozen)

    # 4. Resume.
    profiler = StepProfiler(config.profile_steps, workdir / "profile")
    on_start()
    checkpoints = Checkpoints(
        workdir / "checkpoints",
        keep=config.checkpoint.keep,
        keep_every=config.checkpoint.keep_every,
    )
    restored = checkpoints.restore(state)
    if restored is not None:
        state, _ = restored
    start_step = int(state.step)
    writer = MetricWriter(workdir, resume_step=start_step)
    speed = Speed(
        step_flops(
            model_config,
            parts.params,
            rows=shape.global_batch_size,
            seq_length=shape.seq_length,
            scored_length=shape.scored_length,
        ),
        mesh.size * (config.peak_tflops * 1e12 or peak_flops(dtype)),
    )

    # 5. The loop. Metrics of a step are fetched while the next one runs.
    step_fn = jit_step(
        functools.partial(
            train_step,
            assemble=parts.assemble,
            optimizer=optimizer,
            objective=objective,
            num_kinds=len(batches.kinds),
            total_steps=total_steps,
            ema_decay=settings.ema_decay,
            micro_batches=config.data.micro_batches,
            mesh=mesh if mesh.size > 1 else None,
        ),
        state,
        mesh,
    )
    bar = tqdm(
        total=total_steps, initial=start_step, desc=f"train {config.stage}", unit="step",
        mininterval=1.0, disable=jax.process_index() != 0,
    )  # fmt: skip
    report = functools.partial(_report, batches, config, writer, bar, speed)
    last_saved = start_step
    pending: tuple[int, Any] | None = None
    with (
        closing(checkpoints),
        closing(writer),
        closing(bar),
        closing(profiler),
        jax.set_mesh(mesh),
        StopSignals(mesh) as stop,
        watched_loop() as mark,
    ):
        speed.start()
        step = start_step
        for batch in iterate(batches, mesh, start_step=start_step):
            mark()
            profiler.before(step + 1)
            state, metrics = step_fn(state, batch)
            step += 1
            profiler.after(step, state)
            if pending is not None:
                report(*pending, last_saved=last_saved)
            pending = (step, metrics)
            if on_interval and interval and (step % interval == 0 or step == total_steps):
                # Only a student whose loss was finite is worth a look, which no step is timed with.
                report(*pending, last_saved=last_saved)
                pending = None
                mark()
                live = model_of(student_of(state), source=source)
                writer.write(step, on_interval(step, live))
                speed.start()
            mark()
            if stop.agreed():
                break
            if step % config.checkpoint.interval == 0 and step < total_steps:
                # Only a state whose loss was finite is worth keeping.
                if pending is not None:
                    report(*pending, last_saved=last_saved)
                pending = None
                mark()
                checkpoints.save(step, state, config.to_dict())
                last_saved = step
        if pending is not None:
            report(*pending, last_saved=last_saved)
        if step > last_saved:
            checkpoints.save(step, state, config.to_dict())
    if stop.reason is not None:
        raise (Preempted if stop.reason == signal.SIGTERM else Interrupted)(
            f"stopped by {stop.reason.name} after step {int(state.step)} of {total_steps}, which"
            f" is saved in {workdir}; run the same command again to go on."
        )
    return model_of(student_of(state), source=str(workdir))


def _report(
    batches: PackedBatches,
    config: Config,
    writer: MetricWriter,
    bar: tqdm,
    speed: Speed,
    step: int,
    metrics: Any,
    *,
    last_saved: int,
) -> None:
    """Fetches one step's metrics, checks and writes them."""
    metrics = jax.device_get(metrics)
    if not (np.isfinite(metrics["loss"]) and np.isfinite(metrics["gradient_norm"])):
        raise NonFiniteLossError(
            f"step {step}: loss {metrics['loss']}, gradient norm {metrics['gradient_norm']}; the"
            f" last good checkpoint is {f'step {last_saved}' if last_saved else 'none'}; lower"
            " optimizer.learning_rate or optimizer.clip_norm."
        )
    scalars = scalars_of(metrics, batches.kinds) | speed.scalars(int(metrics["positions"]))
    if step % config.log_interval == 0 or step == len(batches):
        writer.write(step, scalars | device_memory())
    bar.set_postfix_str(
        f"loss {scalars['train/loss']:.3f}, ce {scalars['train/ce_nats']:.3f} nats", refresh=False
    )
    bar.update(1)


def scalars_of(metrics: Mapping[str, np.ndarray], kinds: Sequence[str]) -> dict[str, float]:
    """Named averages from the sums of a step; kinds without a token in it are left out."""
    scalars = {
        "train/loss": float(metrics["loss"]),
        "train/gradient_norm": float(metrics["gradient_norm"]),
        "train/completion_tokens": float(metrics["tokens"].sum()),
    }
    for term, count in (("ce", "tokens"), ("divergence", "tokens"), ("label_kl", "answers")):
        if term not in metrics:
            continue  # no term of this objective
        counts = metrics[count]
        if counts.sum():
            scalars[f"train/{term}_nats"] = float(metrics[term].sum() / counts.sum())
        for kind, total, n in zip(kinds, metrics[term], counts, strict=True):
            if n:
                scalars[f"train/{kind}/{term}_nats"] = float(total / n)
    return scalars
