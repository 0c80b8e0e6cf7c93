"""Stage `evaluate`: F1 on held-out human-labelled texts and on SentiBench."""

import functools
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sentidistill_jax import __version__, sharding
from sentidistill_jax.artifact import Artifact, file_fingerprint, write_json
from sentidistill_jax.corpus.icldist import TASKS as ICL_TASKS
from sentidistill_jax.corpus.icldist import build_prompt
from sentidistill_jax.corpus.records import read_records
from sentidistill_jax.corpus.user_texts import UnlabelledText, UserText, two_class_sets
from sentidistill_jax.distributed import by_leader
from sentidistill_jax.endpoint.journal import Journal
from sentidistill_jax.endpoint.model import EndpointModel
from sentidistill_jax.evaluation.benchmarks import SENTIBENCH
from sentidistill_jax.evaluation.metrics import label_counts, label_scores
from sentidistill_jax.evaluation.results import SCORES_VERSION, benchmark_summary
from sentidistill_jax.evaluation.significance import bootstrap_interval
from sentidistill_jax.inference.label_scoring import score_labels
from sentidistill_jax.settings import Config
from sentidistill_jax.stages.corpus import sentibench_dir
from sentidistill_jax.stages.endpoint import (
    EndpointTeacher,
    endpoint_settings,
    served,
    teacher_settings,
)
from sentidistill_jax.stages.sentibench import (
    Subject,
    asked,
    evaluate_sentibench,
    local_subject,
    protocol,
    provenance,
    served_subject,
)
from sentidistill_jax.stages.students import (
    initial_student,
    student_caches,
    trained_fingerprint,
)
from sentidistill_jax.stages.teacher import Teacher, make_engine, run_by_askers
from sentidistill_jax.teacher.annotate import WordScorer
from sentidistill_jax.teacher.calibration import ensemble
from sentidistill_jax.workdir import Workdir

# Label logprobs [texts, labels] of the binary sentiment task.
Labeller = Callable[[Sequence[UnlabelledText]], np.ndarray]


def zero_shot(scores: WordScorer, name: str) -> Labeller:
    """A model asked "Review: ... Sentiment:", without demonstrations or calibration."""

    def label(texts: Sequence[UnlabelledText]) -> np.ndarray:
        prompts = [build_prompt("sentiment", text, ()) for text in texts]
        return scores(
            [prompt.prompt for prompt in prompts],
            prompts[0].label_words,
            progress=f"evaluate {name}",
        )

    return label


def evaluate_teacher(
    config: Config, workdir: Workdir, load_teacher: Callable[[], Teacher | EndpointTeacher]
) -> None:
    """Scores the teacher raw and calibrated; the offsets come from training texts."""
    run_by_askers(_evaluate_teacher, config)(config, workdir, load_teacher)


def _evaluate_teacher(
    config: Config, workdir: Workdir, load_teacher: Callable[[], Teacher | EndpointTeacher]
) -> None:
    made_from = {
        "teacher": teacher_settings(config),
        "annotations": file_fingerprint(workdir.annotations / "manifest.json"),
    }
    raw, calibrated = (
        _artifact(f"teacher-{kind}", config, workdir, made_from) for kind in ("raw", "calibrated")
    )
    if raw.finished and calibrated.finished:
        return
    _check_something_is_labelled(config, workdir)
    teacher = load_teacher()
    labeller = teacher.labeller("sentiment", config.annotate)
    offsets = np.asarray(
        json.loads((workdir.annotations / "offsets.json").read_text())["sentiment"]
    )
    remembered: dict[tuple[str, ...], np.ndarray] = {}

    def of(offsets: np.ndarray | None) -> Labeller:
        def label(texts: Sequence[UnlabelledText]) -> np.ndarray:
            key = tuple(text.id for text in texts)
            if key not in remembered:
                remembered[key] = labeller.scores(texts, progress="evaluate teacher")
            return ensemble(remembered[key], offsets)

        return label

    if isinstance(teacher, EndpointTeacher):
        subject = served_subject(teacher.model)
    else:
        subject = local_subject(config, teacher.engine, teacher.model)
    evaluate(raw, config, workdir, of(None), subject)
    evaluate(calibrated, config, workdir, of(offsets), None)


def evaluate_student(name: str, config: Config, workdir: Workdir) -> None:
    """Scores the student that `config.student` describes under a name of its own."""
    source = config.student.source
    cut_by = student_caches(config, workdir)
    made_from = {
        "student": config.student.to_dict(),
        "trained": trained_fingerprint(source, workdir),
        "student_caches": list(cut_by.values()),
    }
    artifact = _artifact(name, config, workdir, made_from)
    if artifact.finished:
        return
    _check_something_is_labelled(config, workdir)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.student.source = workdir.model_source(source)
    mesh = sharding.make_mesh(config.mesh)
    model = initial_student(config, mesh, list(cut_by))
    engine = make_engine(model, mesh, config.evaluation.tokens_per_batch)
    scores = functools.partial(score_labels, engine, model.tokenizer)
    subject = local_subject(config, engine, model)
    evaluate(artifact, config, workdir, zero_shot(scores, name), subject)


@by_leader
def evaluate_endpoint(name: str, config: Config, workdir: Workdir) -> None:
    """Scores the model of `config.teacher.endpoint` by itself; its answers are kept in a journal.

    Raises:
      ValueError: If the config names no server.
      EndpointError: If the server fails for good; run again, only what is missing is asked.
    """
    if not served(config):
        raise ValueError(
            "--model=endpoint scores the model of a server; set"
            " --config.teacher.endpoint.base_url to its address."
        )
    artifact = _artifact(name, config, workdir, teacher_settings(config))
    if artifact.finished:
        return
    _check_something_is_labelled(config, workdir)
    with Journal(workdir.evaluation(name) / "journal.jsonl") as journal:
        model = EndpointModel(endpoint_settings(config), journal)
        artifact.begin()
        labeller = zero_shot(model.label_logprobs, name)
        evaluate(artifact, config, workdir, labeller, served_subject(model))


def _artifact(
    name: str, config: Config, workdir: Workdir, model_made_from: Mapping[str, Any]
) -> Artifact:
    """The scores of a model under a name, refused if they are another model's."""
    made_from = {
        "model": model_made_from,
        "held_out": file_fingerprint(workdir.texts / "held_out.jsonl"),
        "evaluation": config.evaluation.to_dict(),
        "sentibench": sentibench_dir(config) is not None,
    }
    return Artifact(workdir.evaluation(name), made_from)


def _check_something_is_labelled(config: Config, workdir: Workdir) -> None:
    if asked(config):
        protocol(config, None)  # refuses bad settings before a model is loaded
    elif not two_class_sets(read_records(workdir.texts / "held_out.jsonl", UserText)):
        raise ValueError(
            "there is nothing to score: no held-out text carries a human label, and no SentiBench"
            " files are used; set SENTIBENCH_DIR or add a labelled source to texts.sources."
        )


def evaluate(
    artifact: Artifact,
    config: Config,
    workdir: Workdir,
    labeller: Labeller,
    subject: Subject | None,
) -> None:
    """Writes scores.json and predictions.jsonl of one model.

    All processes that run the model call it.

    Args:
      artifact: Where they go; its folder is named after the model.
      config: See configs/base.py.
      workdir: Holds the held-out texts.
      labeller: The model on binary sentiment.
      subject: Asked SentiBench's prompts; None where they do not apply.
    """
    directory = artifact.directory
    if artifact.finished:
        return
    held_out = two_class_sets(read_records(workdir.texts / "held_out.jsonl", UserText))
    labels = ICL_TASKS["sentiment"].labels
    sets: dict[str, dict[str, Any]] = {}
    predictions: list[dict[str, Any]] = []
    for source, of_set in held_out.items():
        texts = of_set[: config.evaluation.max_examples.get(source, 0) or None]
        gold = np.array([labels.index(text.human_label or "") for text in texts])
        logprobs = labeller([text.without_label() for text in texts])
        ids = [text.id for text in texts]
        sets[f"held_out/{source}"] = _scores(gold, logprobs, labels)
        predictions += _lines(f"held_out/{source}", ids, gold, logprobs, labels)
    scores: dict[str, Any] = {
        "schema_version": SCORES_VERSION,
        "package_version": __version__,
        "model": directory.name,
        "provenance": provenance(config, subject.origin if subject else {}),
        "sets": sets,
    }
    if subject is not None and asked(config):
        entries, lines, generation = evaluate_sentibench(
            config, subject, directory / "parts", directory.name, by_leader(artifact.begin)
        )
        sets |= {SENTIBENCH.set_name(dataset): entry for dataset, entry in entries.items()}
        predictions += lines
        k_shot = config.evaluation.sentibench.k_shot
        scores[SENTIBENCH.name] = benchmark_summary(SENTIBENCH, entries, k_shot)
        scores["provenance"]["generation"] = generation
    _write(artifact, scores, predictions)


@by_leader
def _write(
    artifact: Artifact, scores: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]
) -> None:
    directory = artifact.directory
    artifact.begin()
    with (directory / "predictions.jsonl").open("w") as file:
        file.writelines(json.dumps(line) + "\n" for line in predictions)
        file.flush()
        os.fsync(file.fileno())
    write_json(directory / "scores.json", scores)
    artifact.finish({name: of_set["examples"] for name, of_set in scores["sets"].items()})
    shutil.rmtree(directory / "parts", ignore_errors=True)


def _scores(gold: np.ndarray, logprobs: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    counts = label_counts(gold, logprobs.argmax(axis=1), logprobs.shape[1])
    scores = label_scores(counts.sum(axis=0))
    interval = bootstrap_interval(counts, label_scores, seed=0)
    return {
        "metric": "macro_f1",
        "f1": float(scores["f1"]),
        "macro_f1": float(scores["f1"]),
        "accuracy": float(scores["accuracy"]),
        "interval_95": [float(interval.low), float(interval.high)],
        "examples": len(gold),
        "labels": list(labels),
        "confusion": counts.sum(axis=0).reshape(len(labels), len(labels)).tolist(),
    }


def _lines(
    set_of: str,
    ids: Sequence[str],
    gold: np.ndarray,
    logprobs: np.ndarray,
    labels: Sequence[str],
) -> list[dict[str, Any]]:
    return [
        {
            "set": set_of,
            "id": one,
            "gold": labels[right],
            "predicted": labels[int(row.argmax())],
            "logprobs": [round(float(value), 5) for value in row],
        }
        for one, right, row in zip(ids, gold, logprobs, strict=True)
    ]
