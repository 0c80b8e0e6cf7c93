"""The smallest run that exercises all of the loop: a model, a cache and a config."""

import pathlib
import runpy
from collections.abc import Sequence
from typing import Any

import jax
from helpers import byte_tokenizer, random_cache, random_model

from sentidistill_jax.artifact import fingerprint
from sentidistill_jax.export import export
from sentidistill_jax.models.load import LoadedModel, load_tokenizer, tokenizer_fingerprint
from sentidistill_jax.settings import Config, float_dtype
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.training import train as train_module
from sentidistill_jax.training.student import Cut, load_student
from sentidistill_jax.training.train import CacheSource, TrainSettings

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 6  # of `tiny_config` on `write_cache`


def write_model(directory: pathlib.Path, *, seed: int = 0) -> pathlib.Path:
    mesh = make_mesh({"data": 1}, jax.devices()[:1])
    export(random_model(mesh, byte_tokenizer(), seed=seed), directory)
    return directory


def fingerprints(model: pathlib.Path) -> dict[str, str]:
    """Of the student's side, which a cache must have."""
    tokenizer = load_tokenizer(str(model))
    return {
        "tokenizer_fingerprint": tokenizer_fingerprint(tokenizer),
        "chat_template_fingerprint": fingerprint(tokenizer.chat_template),
    }


def write_cache(directory: pathlib.Path, model: pathlib.Path, sequences: int = 4) -> pathlib.Path:
    """Sequences of eight tokens: two fit into a row of `tiny_config`, whatever the shuffle."""
    return random_cache(directory, [(4, 4)] * sequences, **fingerprints(model))


def tiny_config(model: pathlib.Path) -> Config:
    config = runpy.run_path(str(ROOT / "configs" / "base.py"))["get_config"]()
    config.student.update(source=str(model), layers=(), dtype="float32", remat="none")
    config.objective.update(name="icldist", alpha=0.5, temperature=1.0, label_weight=0.1)
    config.optimizer.update(
        name="adamw", learning_rate=1e-2, schedule="linear", warmup_fraction=0.0, clip_norm=1.0,
        weight_decay=0.01, frozen=(),
    )  # fmt: skip
    config.data.update(
        global_batch_size=1, micro_batches=1, seq_length=16, scored_length=8, epochs=3
    )
    config.checkpoint.update(interval=2, keep=1)
    config.update(log_interval=1, peak_tflops=1.0)
    return config.lock()


def train(
    config: Config,
    caches: Sequence[pathlib.Path | CacheSource],
    workdir: pathlib.Path,
    *,
    student_caches: Sequence[pathlib.Path] = (),
    **options: Any,
) -> LoadedModel:
    """Loads the student of a config and trains it, as the stage does without its artifact."""
    mesh = make_mesh(config.mesh)
    sources = [one if isinstance(one, CacheSource) else CacheSource(one) for one in caches]
    return train_module.train(
        load_student(
            config.student.source,
            Cut.of(config.student),
            mesh,
            student_caches or [one.directory for one in sources],
            dtype=float_dtype("student.dtype", config.student.dtype),
            remat=config.student.remat,
        ),
        sources,
        TrainSettings.of(config),
        workdir,
        mesh,
        **options,
    )
