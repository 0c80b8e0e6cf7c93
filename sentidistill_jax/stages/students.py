"""Stage `train`: a student learns from a stage's cache and is exported."""

import pathlib

from sentidistill_jax.artifact import Artifact, file_fingerprint
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
    expect = {"config.teacher.source": config.teacher.source}
    prompts = workdir.prompts(config.stage) / "prompts.jsonl"
    if prompts.is_file():  # the cache is all that must be where training runs
        expect["corpus_fingerprint"] = file_fingerprint(prompts)
    model = train(config, [cache / "records"], directory, expect=expect, on_start=artifact.begin)
    export(model, directory / "model")
    artifact.finish({"parameters": model.decoder.config.num_parameters})
    return directory / "model"
