"""Stage `train`: a student learns from a stage's cache and is exported."""

import json
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from sentidistill_jax.artifact import Artifact, file_fingerprint, write_json
from sentidistill_jax.distributed import by_leader
from sentidistill_jax.export import export
from sentidistill_jax.models.flops import num_parameters
from sentidistill_jax.models.load import LoadedModel
from sentidistill_jax.settings import Config, float_dtype
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.stages.endpoint import served, teacher_settings
from sentidistill_jax.stages.sentibench import development_protocol, development_scores
from sentidistill_jax.stages.teacher import make_engine
from sentidistill_jax.training.student import Cut, load_student
from sentidistill_jax.training.train import CacheSource, TrainSettings, check_batch_size, train
from sentidistill_jax.workdir import Workdir

# Sections that decide what a student becomes; a run may go on with others changed. Of the mesh only
# rounding depends.
_MADE_FROM = ("student", "lora", "objective", "optimizer", "data")


def trained_fingerprint(source: str, workdir: Workdir) -> str:
    """Hash of the manifest of `students/<name>`; "" for a model that was not trained here."""
    manifest = workdir.root / source / "manifest.json"
    return file_fingerprint(manifest) if manifest.is_file() else ""


def take_whole(student: Config, source: str) -> None:
    """Makes a `student` section mean a model as it stands: nothing of it is cut."""
    student.update(
        source=source, layers=(), num_layers=0, vocabulary="full", vocabulary_size=0, caches=()
    )
    student.slice.update(dict.fromkeys(student.slice, 0))


def student_caches(config: Config, workdir: Workdir) -> dict[pathlib.Path, str]:
    """Caches that decide what the student keeps of its source, and hashes of their manifests.

    Raises:
      FileNotFoundError: If one is not finished.
    """
    if not Cut.of(config.student).needs_texts:
        return {}
    stages = config.student.caches or config.data.caches.to_dict() or (config.stage,)
    found = {}
    for stage in sorted(stages):
        manifest = workdir.cache(stage) / "manifest.json"
        if not manifest.is_file():
            raise FileNotFoundError(
                f"{manifest} not found, and the student is cut by what is in it; run"
                f" `sentidistill teach` for {stage} first, or change student.caches."
            )
        found[workdir.cache(stage) / "records"] = file_fingerprint(manifest)
    return found


def initial_student(config: Config, mesh: Mesh, caches: Sequence[pathlib.Path]) -> LoadedModel:
    """The student before training, cut by what is in these caches."""
    student = config.student
    dtype = float_dtype("student.dtype", student.dtype)
    return load_student(
        student.source, Cut.of(student), mesh, caches, dtype=dtype, remat=student.remat
    )


def train_student(config: Config, workdir: Workdir) -> pathlib.Path:
    """Trains `config.name` from its caches; resumes; returns the model directory.

    Raises:
      ArtifactMismatchError: If a run of that name was begun with other settings or another cache.
    """
    mesh = make_mesh(config.mesh)
    check_batch_size(TrainSettings.of(config), mesh)
    directory = workdir.student(config.name)
    config = config.copy_and_resolve_references()
    weights = dict(sorted((config.data.caches.to_dict() or {config.stage: 1.0}).items()))
    if min(weights.values()) < 0:
        raise ValueError(f"data.caches={weights} must have weights of at least 0.")
    source = workdir.model_source(config.student.source)
    cut_by = student_caches(config, workdir)
    artifact = Artifact(
        directory,
        {name: config[name].to_dict() for name in _MADE_FROM}
        | {
            "caches": {
                stage: file_fingerprint(workdir.cache(stage) / "manifest.json") for stage in weights
            },
            "initial": trained_fingerprint(config.student.source, workdir),
            "student_caches": list(cut_by.values()),
            "seed": config.seed,
        }
        | _deciding(config),
    )
    if artifact.finished:
        return directory / "model"
    watched = config.evaluation.in_training
    if watched.interval:
        development_protocol(config, None)  # refuses bad settings before a model is loaded
    with config.unlocked():
        config.student.source = source
    caches = [
        CacheSource(workdir.cache(stage) / "records", weight, _made_from(config, workdir, stage))
        for stage, weight in weights.items()
    ]

    model = train(
        initial_student(config, mesh, list(cut_by)),
        caches,
        TrainSettings.of(config),
        directory,
        mesh,
        on_start=by_leader(artifact.begin),
        interval=watched.interval,
        on_interval=_watch(config, directory) if watched.interval else None,
    )
    best = directory / "best"
    chosen = watched.interval and watched.select_best
    if not chosen:
        export(model, directory / "model")
    _finish(artifact, best if chosen else None, num_parameters(model.decoder.config))
    return directory / "model"


@by_leader
def _finish(artifact: Artifact, chosen: pathlib.Path | None, parameters: int) -> None:
    if chosen is not None:
        shutil.copytree(chosen, artifact.directory / "model", dirs_exist_ok=True)
    artifact.finish({"parameters": parameters})


def _deciding(config: Config) -> dict[str, Any]:
    """What of the evaluation during training decides which student is exported."""
    watched = config.evaluation.in_training.to_dict()
    return {"in_training": watched} if watched["interval"] and watched["select_best"] else {}


def _watch(
    config: Config, directory: pathlib.Path
) -> Callable[[int, LoadedModel], Mapping[str, float]]:
    """Scores the live student, and keeps the best so far under `best` if the config says so."""
    mesh = make_mesh(config.mesh)
    best_score = directory / "best.json"

    def on_interval(step: int, model: LoadedModel) -> Mapping[str, float]:
        engine = make_engine(model, mesh, config.evaluation.tokens_per_batch)
        scores = development_scores(config, engine, model)
        if config.evaluation.in_training.select_best:
            # Every process compares for itself, since all of them must take part in an export.
            before = json.loads(best_score.read_text()) if best_score.exists() else None
            # A resumed run sees the step of the best again: the same score, which is kept.
            if before is None or scores["eval/mean_f1"] > before["eval/mean_f1"]:
                export(model, directory / "best")
                by_leader(write_json)(best_score, {"step": step, **scores})
        return scores

    return on_interval


def _made_from(config: Config, workdir: Workdir, stage: str) -> dict[str, object]:
    """What the cache of a stage must have been made from."""
    settings = teacher_settings(config)
    deciding = "endpoint" if served(config) else "source"
    made_from: dict[str, object] = {f"config.teacher.{deciding}": settings[deciding]}
    prompts = workdir.prompts(stage) / "prompts.jsonl"
    if prompts.is_file():  # the cache is all that must be where training runs
        made_from["corpus_fingerprint"] = file_fingerprint(prompts)
    return made_from
