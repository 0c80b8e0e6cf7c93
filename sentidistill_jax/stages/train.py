"""Stage `train`: a student learns from the caches of one or more stages and is exported."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from flax import nnx
from jax.sharding import Mesh

from sentidistill_jax.artifact import Artifact, file_fingerprint, write_json
from sentidistill_jax.corpus.definition_files import load_definitions
from sentidistill_jax.data.teacher_cache import CacheMismatchError
from sentidistill_jax.data.teacher_cache.manifest import differences
from sentidistill_jax.distributed import on_process_zero
from sentidistill_jax.evaluation.protocols import DevelopmentScorer
from sentidistill_jax.export import export
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.models.flops import num_parameters
from sentidistill_jax.models.load import LoadedModel, weights_fingerprint
from sentidistill_jax.settings import (
    Config,
    corpus_name,
    float_dtype,
    sentibench_dir,
    student_caches,
)
from sentidistill_jax.sharding import make_mesh, undivided
from sentidistill_jax.teacher.settings import TeacherSettings
from sentidistill_jax.training.student import Cut, load_student
from sentidistill_jax.training.train import CacheSource, TrainSettings, check_batch_size, train
from sentidistill_jax.workdir import Workdir

# Sections that decide what a student becomes; a run may go on with others changed. Of the mesh only
# rounding depends.
_STORAGE = ("codec", "records_per_shard")  # of the section `cache`: no word about its content
_MADE_FROM = ("student", "lora", "objective", "optimizer", "data")


def train_student(config: Config, workdir: Workdir) -> pathlib.Path:
    """Trains `config.name` from its caches; resumes; returns the model directory.

    A finished run whose model directory is gone exports it again, from its last checkpoint.

    Raises:
      ArtifactMismatchError: If a run of that name was begun with other settings, another cache or
        other weights.
      CacheMismatchError: If the cache of the config's stage was made with other settings.
    """
    mesh = make_mesh(config.mesh)
    check_batch_size(TrainSettings.of(config), mesh)
    load_definitions(config.tasks.files, config.perspectives.files)
    directory = workdir.student(config.name)
    config = config.copy_and_resolve_references()
    weights = dict(sorted((config.data.caches.to_dict() or {corpus_name(config): 1.0}).items()))
    if min(weights.values()) < 0:
        raise ValueError(f"data.caches={weights} must have weights of at least 0.")
    stages = student_caches(config) if Cut.of(config.student).needs_texts else ()
    cut_by = workdir.student_caches(stages)
    artifact = Artifact(
        directory,
        {name: config[name].to_dict() for name in _MADE_FROM}
        | {
            "caches": {
                stage: file_fingerprint(workdir.cache(stage) / "manifest.json") for stage in weights
            },
            "initial": weights_fingerprint(workdir.model_source(config.student.source)),
            "student_caches": list(cut_by.values()),
            "seed": config.seed,
        }
        | _deciding(config.evaluation.in_training.to_dict()),
    )
    if artifact.finished and (directory / "model").is_dir():
        return directory / "model"
    if corpus_name(config) in weights:
        _check_settings_of_cache(config, workdir)
    if not config.data.epochs:
        return _untrained(config, workdir, artifact, mesh, list(cut_by))
    watched, watch = config.evaluation.in_training, None
    if watched.interval:  # refuses bad settings before a model is loaded
        scorer = DevelopmentScorer(config.evaluation.to_dict(), sentibench_dir(config.texts))
        tokens_per_batch = config.evaluation.tokens_per_batch
        watch = _Watch(scorer, mesh, tokens_per_batch, directory, watched.select_best)
    loaded = _load(config, workdir, mesh, list(cut_by))
    for sentence in undivided(nnx.state(loaded.decoder), mesh.shape):
        on_process_zero(print)(sentence)
    model = train(
        loaded,
        [
            CacheSource(
                workdir.cache(stage) / "records", weight, _cache_made_from(config, workdir, stage)
            )
            for stage, weight in weights.items()
        ],
        TrainSettings.of(config),
        directory,
        mesh,
        on_start=on_process_zero(artifact.begin),
        interval=watched.interval,
        on_interval=watch,
    )
    chosen = watch is not None and watch.select_best
    if not chosen:
        export(model, directory / "model")
    _finish(artifact, chosen, num_parameters(model.decoder.config))
    return directory / "model"


def _load(config: Config, workdir: Workdir, mesh: Mesh, caches: list[pathlib.Path]) -> LoadedModel:
    student = config.student
    return load_student(
        workdir.model_source(student.source),
        Cut.of(student),
        mesh,
        caches,
        dtype=float_dtype("student.dtype", student.dtype),
        remat=student.remat,
    )


def _untrained(
    config: Config, workdir: Workdir, artifact: Artifact, mesh: Mesh, caches: list[pathlib.Path]
) -> pathlib.Path:
    """Exports the student as it was cut: several runs can start from it, cut once."""
    on_process_zero(artifact.begin)()
    model = _load(config, workdir, mesh, caches)
    export(model, artifact.directory / "model")
    _finish(artifact, False, num_parameters(model.decoder.config))
    return artifact.directory / "model"


@on_process_zero
def _finish(artifact: Artifact, chosen: bool, parameters: int) -> None:
    if chosen:
        directory = artifact.directory
        shutil.copytree(directory / "best", directory / "model", dirs_exist_ok=True)
    artifact.finish({"parameters": parameters})


def _deciding(in_training: Mapping[str, Any]) -> dict[str, Any]:
    """What of the evaluation during training decides which student is exported."""
    decides = in_training["interval"] and in_training["select_best"]
    return {"in_training": in_training} if decides else {}


@dataclasses.dataclass(frozen=True)
class _Watch:
    """Scores the live student, and keeps the best so far under `best` if asked to."""

    scorer: DevelopmentScorer
    mesh: Any
    tokens_per_batch: int
    directory: pathlib.Path
    select_best: bool

    def __call__(self, step: int, model: LoadedModel) -> Mapping[str, float]:
        local = LocalModel.on_mesh(model, self.mesh, tokens_per_batch=self.tokens_per_batch)
        scores = self.scorer(local)
        if self.select_best:
            # Every process compares for itself, since all of them must take part in an export.
            file = self.directory / "best.json"
            best = json.loads(file.read_text()) if file.exists() else None
            # A resumed run sees the step of the best again: the same score, which is kept.
            if best is None or scores["eval/mean_f1"] > best["eval/mean_f1"]:
                export(model, self.directory / "best")
                on_process_zero(write_json)(file, {"step": step, **scores})
        return scores


def _check_settings_of_cache(config: Config, workdir: Workdir) -> None:
    """Refuses a cache of the config's corpus of which the config says something else.

    Other stages may have been captured with other settings, and a run may have a seed of its own.
    """
    directory = workdir.cache(corpus_name(config))
    decides = {f"cache.{name}": config.cache[name] for name in config.cache if name not in _STORAGE}
    decides["generation"] = config.generation.to_dict()
    made_from = json.loads((directory / "manifest.json").read_text())["made_from"]
    problems = differences(made_from, decides)
    if problems:
        raise CacheMismatchError(directory, problems)


def _cache_made_from(config: Config, workdir: Workdir, stage: str) -> dict[str, object]:
    """What the cache of a stage must have been made from."""
    identity = TeacherSettings.from_section(config.teacher.to_dict()).identity()
    deciding = "endpoint" if "endpoint" in identity else "source"
    made_from: dict[str, object] = {f"config.teacher.{deciding}": identity[deciding]}
    prompts = workdir.prompts(stage) / "prompts.jsonl"
    if prompts.is_file():  # the cache is all that must be where training runs
        made_from["corpus_fingerprint"] = file_fingerprint(prompts)
    return made_from
