"""Stage `train`: a student learns from a stage's cache and is exported."""

import pathlib

from sentidistill_jax.artifact import Artifact, file_fingerprint
from sentidistill_jax.export import export
from sentidistill_jax.settings import Config
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.training.train import check_batch_size, cut_of, train
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
    if not cut_of(config).needs_texts:
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


def train_student(config: Config, workdir: Workdir) -> pathlib.Path:
    """Trains `config.name` from its caches; resumes; returns the model directory.

    Raises:
      ArtifactMismatchError: If a run of that name was begun with other settings or another cache.
    """
    check_batch_size(config, make_mesh(config.mesh))
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
        },
    )
    if artifact.finished:
        return directory / "model"
    with config.unlocked():
        config.student.source = source
    model = train(
        config,
        [workdir.cache(stage) / "records" for stage in weights],
        directory,
        cache_weights=list(weights.values()),
        student_caches=list(cut_by),
        on_start=artifact.begin,
    )
    export(model, directory / "model")
    artifact.finish({"parameters": model.decoder.config.num_parameters})
    return directory / "model"
