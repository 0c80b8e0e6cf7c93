"""Stage `train`: a student learns from a stage's cache and is exported."""

import pathlib

from sentidistill_jax.artifact import Artifact, file_fingerprint
from sentidistill_jax.export import export
from sentidistill_jax.settings import Config
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.training.train import check_batch_size, train
from sentidistill_jax.workdir import Workdir

# Sections that decide what a student becomes; a run may go on with others changed. Of the mesh only
# rounding depends.
_MADE_FROM = ("student", "lora", "objective", "optimizer", "data")


def trained_fingerprint(source: str, workdir: Workdir) -> str:
    """Hash of the manifest of `students/<name>`; "" for a model that was not trained here."""
    manifest = workdir.root / source / "manifest.json"
    return file_fingerprint(manifest) if manifest.is_file() else ""


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
    artifact = Artifact(
        directory,
        {name: config[name].to_dict() for name in _MADE_FROM}
        | {
            "caches": {
                stage: file_fingerprint(workdir.cache(stage) / "manifest.json") for stage in weights
            },
            "initial": trained_fingerprint(config.student.source, workdir),
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
        expect=[_made_from(config, workdir, stage) for stage in weights],
        on_start=artifact.begin,
    )
    export(model, directory / "model")
    artifact.finish({"parameters": model.decoder.config.num_parameters})
    return directory / "model"


def _made_from(config: Config, workdir: Workdir, stage: str) -> dict[str, object]:
    """What the cache of a stage must have been made from."""
    made_from: dict[str, object] = {"config.teacher.source": config.teacher.source}
    prompts = workdir.prompts(stage) / "prompts.jsonl"
    if prompts.is_file():  # the cache is all that must be where training runs
        made_from["corpus_fingerprint"] = file_fingerprint(prompts)
    return made_from
