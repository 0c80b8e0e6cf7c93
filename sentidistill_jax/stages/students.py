"""Stage `train`: a student learns from a stage's cache and is exported."""

import pathlib

from sentidistill_jax.artifact import Artifact, file_fingerprint
from sentidistill_jax.distributed import is_leader
from sentidistill_jax.export import export
from sentidistill_jax.settings import Config
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.training.train import check_batch_size, train
from sentidistill_jax.workdir import Workdir


def trained_fingerprint(source: str, workdir: Workdir) -> str:
    """Hash of the manifest of `students/<name>`; "" for a model that was not trained here."""
    manifest = workdir.root / source / "manifest.json"
    return file_fingerprint(manifest) if manifest.is_file() else ""


def train_student(config: Config, workdir: Workdir) -> pathlib.Path:
    """Trains `config.name` from the cache of `config.stage`; resumes; returns the model directory.

    Raises:
      ArtifactMismatchError: If a run of that name was begun with other settings or another cache.
    """
    check_batch_size(config, make_mesh(config.mesh))
    directory = workdir.student(config.name)
    cache = workdir.cache(config.stage)
    config = config.copy_and_resolve_references()
    source = workdir.model_source(config.student.source)
    sections = ("mesh", "student", "objective", "optimizer", "data")
    artifact = Artifact(
        directory,
        {name: config[name].to_dict() for name in sections}
        | {
            "cache": file_fingerprint(cache / "manifest.json"),
            "initial": trained_fingerprint(config.student.source, workdir),
            "seed": config.seed,
        },
    )
    if artifact.finished:
        return directory / "model"
    with config.unlocked():
        config.student.source = source

    def begin() -> None:
        if is_leader():
            artifact.begin()

    model = train(config, [cache / "records"], directory, on_start=begin)
    export(model, directory / "model")
    if is_leader():
        artifact.finish({"parameters": model.decoder.config.num_parameters})
    return directory / "model"
