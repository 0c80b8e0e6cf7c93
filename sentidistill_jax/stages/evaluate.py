"""Stage `evaluate`: F1 on held-out human-labelled texts and on SentiBench."""

import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sentidistill_jax import __version__
from sentidistill_jax.artifact import Artifact, file_fingerprint, fingerprint
from sentidistill_jax.corpus.definition_files import load_definitions
from sentidistill_jax.corpus.icldist import TASKS
from sentidistill_jax.corpus.intake import load_user_texts
from sentidistill_jax.corpus.records import read_records
from sentidistill_jax.corpus.sampling import draw_texts
from sentidistill_jax.corpus.user_texts import UnlabelledText, UserText, two_class_sets
from sentidistill_jax.distributed import is_process_zero, on_process_zero
from sentidistill_jax.endpoint.journal import Journal
from sentidistill_jax.endpoint.model import EndpointModel
from sentidistill_jax.errors import storage_errors
from sentidistill_jax.evaluation import runner
from sentidistill_jax.evaluation.benchmarks import SENTIBENCH
from sentidistill_jax.evaluation.held_out import held_out_lines, held_out_scores
from sentidistill_jax.evaluation.linear_baseline import fit_linear
from sentidistill_jax.evaluation.protocols import answer_settings, protocol_of
from sentidistill_jax.evaluation.results import SCORES_VERSION, Line, benchmark_summary
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.language_model import LanguageModel
from sentidistill_jax.models.load import weights_fingerprint
from sentidistill_jax.reporting.scores_file import provenance, write_scores
from sentidistill_jax.settings import (
    Config,
    float_dtype,
    sentibench_dir,
    student_caches,
    take_whole,
)
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.teacher.annotate import (
    Annotation,
    Annotator,
    ensemble,
    save_array,
)
from sentidistill_jax.teacher.settings import TeacherSettings
from sentidistill_jax.teacher.zero_shot import ScoreTexts, without_bias, zero_shot
from sentidistill_jax.training.student import Cut, load_student
from sentidistill_jax.workdir import Workdir

_TRAINING = ("param_dtype", "remat")  # of the section `student`: no score depends on them


def evaluate_teacher(
    config: Config, workdir: Workdir, load_teacher: Callable[[], LanguageModel] | None = None
) -> None:
    """Scores the teacher raw and calibrated; the offsets come from training texts.

    Args:
      config: See configs/base.py.
      workdir: Holds the held-out texts and the teacher's annotations.
      load_teacher: Gives the teacher of the config if it is there already.
    """
    load_definitions(config.tasks.files, config.perspectives.files)
    teacher = TeacherSettings.from_section(config.teacher.to_dict())
    journal = workdir.annotations / "journal.jsonl"
    load = load_teacher or (lambda: teacher.load(config.mesh, journal))
    run = _evaluate_teacher if teacher.spans_processes else on_process_zero(_evaluate_teacher)
    run(config, workdir, teacher, load)


def _evaluate_teacher(
    config: Config, workdir: Workdir, teacher: TeacherSettings, load: Callable[[], LanguageModel]
) -> None:
    made_from = {
        "teacher": teacher.made_from(),
        "annotations": file_fingerprint(workdir.annotations / "manifest.json"),
    }
    raw = _artifact("teacher-raw", config, workdir, made_from)
    calibrated = _artifact("teacher-calibrated", config, workdir, made_from, held_out_only=True)
    if raw.finished and calibrated.finished:
        return
    _check_something_is_labelled(config, workdir)
    model, settings = load(), config.annotate
    annotator = Annotator(model, "sentiment", settings.k_shot, settings.draws)
    offsets = np.asarray(
        json.loads((workdir.annotations / "offsets.json").read_text())["sentiment"]
    )

    @functools.cache
    def scores(texts: tuple[UnlabelledText, ...]) -> np.ndarray:
        return annotator.scores(texts, progress="evaluate teacher")

    _evaluate(raw, config, workdir, lambda texts: ensemble(scores(tuple(texts)), None), model)
    _evaluate(calibrated, config, workdir, lambda texts: ensemble(scores(tuple(texts)), offsets))


def evaluate_student(
    name: str, config: Config, workdir: Workdir, *, source: str | None = None
) -> None:
    """Scores the student that `config.student` describes under a name of its own.

    Held-out texts are scored a second time without the student's bias towards a label, under the
    name with `-calibrated` behind it: as the teacher is, by what training texts show of the bias.

    Args:
      name: Name of the scores.
      config: See configs/base.py.
      workdir: Holds the held-out texts and the training texts.
      source: A model as it stands, of which nothing is cut, instead of `student.source`.
    """
    load_definitions(config.tasks.files, config.perspectives.files)
    config = config.copy_and_resolve_references()
    student = config.student
    if source is not None:
        take_whole(student, source)
    stages = student_caches(config) if Cut.of(student).needs_texts else ()
    cut_by = workdir.student_caches(stages)
    made_from = {
        "student": {k: v for k, v in student.to_dict().items() if k not in _TRAINING},
        "weights": weights_fingerprint(workdir.model_source(student.source)),
        "student_caches": list(cut_by.values()),
    }
    raw = _artifact(name, config, workdir, made_from)
    artifacts = [raw]
    if config.evaluation.calibration_texts and _labelled(workdir):
        train = file_fingerprint(workdir.texts / "train.jsonl")
        made_from |= {"train": train, "seed": config.seed}
        made_from |= {"calibration_texts": config.evaluation.calibration_texts}
        artifacts.append(
            _artifact(f"{name}-calibrated", config, workdir, made_from, held_out_only=True)
        )
    if all(artifact.finished for artifact in artifacts):
        return
    _check_something_is_labelled(config, workdir)
    with config.unlocked():
        student.source = workdir.model_source(student.source)
    mesh = make_mesh(config.mesh)
    loaded = load_student(
        student.source, Cut.of(student), mesh, list(cut_by),
        dtype=float_dtype("student.dtype", student.dtype), remat=student.remat,
    )  # fmt: skip
    settings = config.evaluation
    model = LocalModel.on_mesh(
        loaded, mesh, tokens_per_batch=settings.tokens_per_batch, max_num_seqs=settings.max_num_seqs
    )
    zero_shot_scores = zero_shot(model, name)

    @functools.cache
    def scores(texts: tuple[UnlabelledText, ...]) -> np.ndarray:
        return zero_shot_scores(texts)

    _evaluate(raw, config, workdir, lambda texts: scores(tuple(texts)), model)
    for artifact in artifacts[1:]:
        if not artifact.finished:
            pool = read_records(workdir.texts / "train.jsonl", UnlabelledText)
            pool = draw_texts(pool, settings.calibration_texts, key=f"calibrate/{config.seed}")
            calibrated = without_bias(lambda texts: scores(tuple(texts)), pool)
            _evaluate(artifact, config, workdir, calibrated)


@on_process_zero
def evaluate_linear(config: Config, workdir: Workdir) -> None:
    """Scores the linear baseline on two kinds of labels of the same training texts.

    `linear-teacher` learns from the teacher's labels, as students do, and `linear-human` from human
    ones, which no student ever sees, where a source has them.

    Raises:
      ImportError: If scikit-learn is not installed.
      ValueError: If nothing is labelled.
    """
    labels = TASKS["sentiment"].labels
    texts = {
        one.id: one.text for one in read_records(workdir.texts / "train.jsonl", UnlabelledText)
    }
    made_from = {"annotations": file_fingerprint(workdir.annotations / "manifest.json")}
    teacher, human = (
        _artifact(f"linear-{whose}", config, workdir, made_from | {"labels": whose})
        for whose in ("teacher", "human")
    )
    if not teacher.finished:
        annotations = read_records(workdir.annotations / "annotations.jsonl", Annotation)
        by_teacher = {a.text_id: a.label for a in annotations if a.task == "sentiment"}
        _evaluate(teacher, config, workdir, _linear(texts, by_teacher, labels))
    if not human.finished:
        loaded = load_user_texts(
            config.texts.sources,
            pathlib.Path(config.texts.folder),
            held_out_fraction=config.texts.held_out_fraction,
            min_words=config.texts.min_words,
            max_words=config.texts.max_words,
            long_texts=config.texts.long_texts,
        )
        by_people = {
            text.id: text.human_label
            for text in loaded.texts
            if text.id in texts and text.human_label in labels
        }
        if by_people:
            _evaluate(human, config, workdir, _linear(texts, by_people, labels))


def _linear(
    texts: Mapping[str, str], label_of: Mapping[str, str], labels: Sequence[str]
) -> ScoreTexts:
    found = np.array([labels.index(label) for label in label_of.values()])
    classify = fit_linear([texts[text_id] for text_id in label_of], found, len(labels))
    return lambda asked: classify([text.text for text in asked])


@on_process_zero
def evaluate_endpoint(name: str, config: Config, workdir: Workdir) -> None:
    """Scores the model of `config.teacher.endpoint` by itself; its answers are kept in a journal.

    Raises:
      ValueError: If the config names no server.
      EndpointError: If the server fails for good; run again, only what is missing is asked.
    """
    load_definitions(config.tasks.files, config.perspectives.files)
    teacher = TeacherSettings.from_section(config.teacher.to_dict())
    if teacher.endpoint is None:
        raise ValueError(
            "--model=endpoint scores the model of a server; set"
            " --config.teacher.endpoint.base_url to its address."
        )
    artifact = _artifact(name, config, workdir, teacher.identity())
    if artifact.finished:
        return
    _check_something_is_labelled(config, workdir)
    with Journal(workdir.evaluation(name) / "journal.jsonl") as journal:
        model = EndpointModel(teacher.endpoint, journal)
        artifact.begin()
        _evaluate(artifact, config, workdir, zero_shot(model, name), model)


def _artifact(
    name: str,
    config: Config,
    workdir: Workdir,
    model_made_from: Mapping[str, Any],
    *,
    held_out_only: bool = False,
) -> Artifact:
    """The scores of a model under a name, refused if they are of another model or other data."""
    directory = workdir.evaluation(name)
    evaluation, held_out = config.evaluation, workdir.texts / "held_out.jsonl"
    asked = _sentibench_enabled(config) and not held_out_only
    made_from = {
        "model": model_made_from,
        "data": {
            "held_out": file_fingerprint(held_out) if held_out.exists() or not asked else None,
            "sentibench": _sentibench_fingerprint(config) if asked else None,
        },
        "max_examples": evaluation.max_examples.to_dict(),
        "sentibench": evaluation.sentibench.to_dict() if asked else None,
        "sentibench_examples": evaluation.sentibench_examples if asked else None,
    }
    return Artifact(directory, made_from)


def _sentibench_fingerprint(config: Config) -> str:
    """Hash of the files that are read: the published ones, unless the config allows others."""
    evaluation = config.evaluation
    protocol = protocol_of(evaluation.sentibench, evaluation.sentibench_examples, None)
    check = SENTIBENCH.sums if evaluation.sentibench.altered_files else SENTIBENCH.verify
    files = SENTIBENCH.files(protocol.dataset_names)
    return fingerprint(check(sentibench_dir(config.texts), files))


def _sentibench_enabled(config: Config) -> bool:
    """Whether SentiBench is scored: its files are at hand and the config wants some of it."""
    wanted = config.evaluation.sentibench_examples >= 0
    return sentibench_dir(config.texts) is not None and wanted


def _labelled(workdir: Workdir) -> dict[str, list[UserText]]:
    """The held-out texts of two human labels, by set; none without a corpus."""
    path = workdir.texts / "held_out.jsonl"
    return two_class_sets(read_records(path, UserText)) if path.exists() else {}


def _check_something_is_labelled(config: Config, workdir: Workdir) -> None:
    """Refuses bad settings and files, or nothing to score, before a model is loaded."""
    if _sentibench_enabled(config):
        settings = config.evaluation.sentibench
        protocol = protocol_of(settings, config.evaluation.sentibench_examples, None)
        answer_settings(settings, protocol)
        for dataset in protocol.dataset_names:
            SENTIBENCH.load(dataset, sentibench_dir(config.texts))
    elif not _labelled(workdir):
        raise ValueError(
            "there is nothing to score: no held-out text carries a human label, and no SentiBench"
            " files are used; set SENTIBENCH_DIR or add a labelled source to texts.sources."
        )


def _evaluate(
    artifact: Artifact,
    config: Config,
    workdir: Workdir,
    score_texts: ScoreTexts,
    model: LanguageModel | None = None,
) -> None:
    """Writes scores.json and predictions.jsonl of one model.

    All processes that run the model call it.

    Args:
      artifact: Where they go; its folder is named after the model.
      config: See configs/base.py.
      workdir: Holds the held-out texts.
      score_texts: The model on binary sentiment.
      model: Asked SentiBench's prompts; None where they do not apply.
    """
    if artifact.finished:
        return
    # What may be refused comes first: nothing is written before.
    asked = None
    if model is not None and _sentibench_enabled(config):
        asked = _ask_sentibench(artifact, config, model)
    on_process_zero(artifact.begin)()
    sets, predictions = _score_held_out(artifact, config, workdir, score_texts)
    scores: dict[str, Any] = {
        "schema_version": SCORES_VERSION,
        "package_version": __version__,
        "model": artifact.directory.name,
        "provenance": provenance(config.evaluation.to_dict(), model.origin if model else {})
        | {"data": artifact.made_from["data"]},
        "sets": sets,
    }
    if asked is not None:
        entries, lines, generation = asked
        sets |= {SENTIBENCH.set_name(dataset): entry for dataset, entry in entries.items()}
        predictions += lines
        k_shot = config.evaluation.sentibench.k_shot
        scores[SENTIBENCH.name] = benchmark_summary(SENTIBENCH, entries, k_shot)
        scores["provenance"]["generation"] = generation
    on_process_zero(write_scores)(artifact, scores, predictions)


@storage_errors()
def _score_held_out(
    artifact: Artifact, config: Config, workdir: Workdir, score_texts: ScoreTexts
) -> tuple[dict[str, dict[str, Any]], list[Line]]:
    """Entries of the held-out sets and lines of predictions; each set's scores are kept."""
    labels = TASKS["sentiment"].labels
    sets: dict[str, dict[str, Any]] = {}
    predictions: list[Line] = []
    for number, (source, of_set) in enumerate(_labelled(workdir).items()):
        texts = of_set[: config.evaluation.max_examples.get(source, 0) or None]
        gold = np.array([labels.index(text.human_label or "") for text in texts])
        part = artifact.directory / "parts" / f"held_out-{number}.npy"
        if not part.exists():
            scored = score_texts([text.without_label() for text in texts])
            on_process_zero(save_array)(part, scored)
        logprobs = np.load(part)
        name, ids = f"held_out/{source}", [text.id for text in texts]
        sets[name] = held_out_scores(gold, logprobs, labels)
        predictions += held_out_lines(name, ids, gold, logprobs, labels)
    return sets, predictions


def _ask_sentibench(
    artifact: Artifact, config: Config, model: LanguageModel
) -> tuple[dict[str, dict[str, Any]], list[Line], dict[str, Any]]:
    """Entries of the data sets, lines of predictions, and how answers were generated."""
    settings, examples = config.evaluation.sentibench, config.evaluation.sentibench_examples
    protocol = protocol_of(settings, examples, model.max_position)
    model = model.with_settings(answer_settings(settings, protocol))
    entries, lines = runner.run(
        model,
        protocol,
        functools.partial(SENTIBENCH.load, data_dir=sentibench_dir(config.texts)),
        artifact.directory / "parts",
        name=f"evaluate {artifact.directory.name}",
        write=is_process_zero(),
        on_start=on_process_zero(artifact.begin),
    )
    return entries, lines, {"max_new_tokens": protocol.max_new_tokens, **model.decoding}
