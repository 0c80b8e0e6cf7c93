"""Stage `corpus`: user texts, the teacher's labels for them, and the prompts made of both."""

import json
import pathlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import numpy as np

from sentidistill_jax.artifact import Artifact, file_fingerprint, write_json
from sentidistill_jax.corpus import healing
from sentidistill_jax.corpus.build import build_icldist, build_knowdist, distillation_texts
from sentidistill_jax.corpus.definition_files import load_definitions
from sentidistill_jax.corpus.definitions import definitions_fingerprint
from sentidistill_jax.corpus.difficulty import difficulty, hardest
from sentidistill_jax.corpus.icldist import TASKS
from sentidistill_jax.corpus.intake import load_user_texts
from sentidistill_jax.corpus.leakage import LeakageReport, load_test_sentences
from sentidistill_jax.corpus.perspectives import PERSPECTIVES
from sentidistill_jax.corpus.records import Prompt, read_records, write_records
from sentidistill_jax.corpus.sampling import cap_sources, draw_texts
from sentidistill_jax.corpus.sources import parse_sources
from sentidistill_jax.corpus.user_texts import UnlabelledText, UserText
from sentidistill_jax.distributed import on_process_zero
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.language_model import LanguageModel
from sentidistill_jax.models.load import load_model, weights_fingerprint
from sentidistill_jax.settings import Config, corpus_name, float_dtype, sentibench_dir
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.teacher.annotate import Annotation, Annotator
from sentidistill_jax.teacher.settings import TeacherSettings
from sentidistill_jax.teacher.zero_shot import without_bias, zero_shot
from sentidistill_jax.workdir import Workdir


@on_process_zero
def prepare_texts(config: Config, workdir: Workdir) -> None:
    """Reads, cleans, guards and samples the user texts, once per working directory."""
    bench = sentibench_dir(config.texts)
    artifact = Artifact(
        workdir.texts,
        {"texts": config.texts.to_dict() | {"sentibench_dir": bool(bench)}, "seed": config.seed},
    )
    if artifact.finished:
        return
    own_caps = {source.name: source.max for source in parse_sources(config.texts.sources)}
    caps = config.texts.max_per_source.to_dict() | {name: n for name, n in own_caps.items() if n}
    key = f"texts/{config.seed}"
    loaded = load_user_texts(
        config.texts.sources,
        pathlib.Path(config.texts.folder),
        held_out_fraction=config.texts.held_out_fraction,
        min_words=config.texts.min_words,
        max_words=config.texts.max_words,
        long_texts=config.texts.long_texts,
        max_per_source=caps,
        max_held_out=config.texts.max_held_out,
        key=key,
    )
    print(f"texts read:\n{loaded.summary()}")
    test_sentences = load_test_sentences(bench) if bench else {}
    kept, leaks = distillation_texts(loaded.texts, test_sentences)
    train = cap_sources(kept, caps, key=key)
    if not train:
        raise ValueError(
            f"none of the {len(loaded.texts)} texts is left to distil from; add texts to"
            " texts.sources, or lower texts.held_out_fraction."
        )
    artifact.begin()
    write_records(workdir.texts / "train.jsonl", train, UnlabelledText)
    held_out = [text for text in loaded.texts if text.split == "held_out"]
    write_records(workdir.texts / "held_out.jsonl", held_out, UserText)
    write_json(
        workdir.texts / "leakage.json",
        {"counts": leaks.counts(), "examples": [asdict(leak) for leak in leaks.examples()]},
    )
    artifact.finish(
        {
            "read": {name: count.to_dict() for name, count in loaded.counts.items()},
            "truncated": {name: count.truncated for name, count in loaded.counts.items()},
            "leaks_dropped": leaks.counts(),
            "guarded_against": sorted(test_sentences),
            "train": Counter(text.source for text in train),
            "held_out": Counter(text.source for text in held_out),
        }
    )
    print(_summary(train, held_out, leaks, bench))


def _summary(
    train: Sequence[UnlabelledText],
    held_out: Sequence[UserText],
    leaks: LeakageReport,
    bench: pathlib.Path | None,
) -> str:
    dropped = sum(
        sum(kinds.values()) for by_set in leaks.counts().values() for kinds in by_set.values()
    )
    guard = "and SentiBench test sentences" if bench else "(no SentiBench files at hand)"
    return (
        f"texts: {len(train)} to distil from, {len(held_out)} held out;"
        f" {dropped} training texts dropped for resembling held-out texts {guard}"
    )


def annotate(
    config: Config, workdir: Workdir, load_teacher: Callable[[], LanguageModel] | None = None
) -> None:
    """Has the teacher label training texts in the sentiment tasks; resumes between chunks.

    Args:
      config: See configs/base.py.
      workdir: Holds the texts, and gets the annotations.
      load_teacher: Gives the teacher of the config if it is there already.
    """
    load_definitions(config.tasks.files, config.perspectives.files)
    teacher = TeacherSettings.from_section(config.teacher.to_dict())
    journal = workdir.annotations / "journal.jsonl"
    load = load_teacher or (lambda: teacher.load(config.mesh, journal))
    run = _annotate if teacher.spans_processes else on_process_zero(_annotate)
    run(config, workdir, teacher, load)


def _annotate(
    config: Config, workdir: Workdir, teacher: TeacherSettings, load: Callable[[], LanguageModel]
) -> None:
    settings, seed = config.annotate, config.seed
    texts_path = workdir.texts / "train.jsonl"
    artifact = Artifact(
        workdir.annotations,
        {
            "annotate": settings.to_dict(),
            "definitions": definitions_fingerprint(TASKS, settings.tasks.to_dict()),
            "seed": seed,
            "teacher": teacher.made_from(),
            "texts": file_fingerprint(texts_path),
        },
    )
    if artifact.finished:
        return
    unused = sorted(set(settings.priors) - set(settings.tasks))
    if unused:
        raise ValueError(f"annotate.priors has {unused}, which annotate.tasks lacks.")
    model = load()
    annotators = [
        Annotator(model, task, settings.k_shot, settings.draws) for task in settings.tasks
    ]
    for annotator in annotators:
        annotator.prior(settings.priors.get(annotator.task))
    on_process_zero(artifact.begin)()
    texts = read_records(texts_path, UnlabelledText)
    annotations: list[Annotation] = []
    offsets: dict[str, list[list[float]]] = {}
    for annotator in annotators:
        task, most = annotator.task, settings.tasks[annotator.task]
        fitting = [text for text in texts if TASKS[task].applies_to(text)]
        chosen = draw_texts(fitting, most or len(fitting), key=f"annotate/{seed}/{task}")
        scores = annotator.resumable_scores(chosen, workdir.annotations / "parts")
        fitted = annotator.offsets(scores, settings.priors.get(task))
        annotations += annotator.annotations(chosen, scores, fitted)
        offsets[task] = fitted.tolist()
    _write_annotations(artifact, annotations, offsets)


@on_process_zero
def _write_annotations(
    artifact: Artifact,
    annotations: Sequence[Annotation],
    offsets: Mapping[str, list[list[float]]],
) -> None:
    write_records(artifact.directory / "annotations.jsonl", annotations, Annotation)
    write_json(artifact.directory / "offsets.json", offsets)
    shares: dict[str, Counter[str]] = {task: Counter() for task in offsets}
    for annotation in annotations:
        shares[annotation.task][annotation.label] += 1
    artifact.finish({"labels": shares})


def measure_difficulty(config: Config, workdir: Workdir) -> None:
    """Has `difficulty.model` label the texts, and writes how far it is from the teacher's labels.

    The model's bias towards a label is taken out: all texts of the other would seem difficult.

    Raises:
      FileNotFoundError: If the model is not there.
      ValueError: If the teacher has labelled no text for its sentiment.
    """
    settings = config.difficulty
    if not settings.model:
        return
    path = workdir.model_source(settings.model)
    annotations_path = workdir.annotations / "annotations.jsonl"
    artifact = Artifact(
        workdir.difficulty(corpus_name(config)),
        {"weights": weights_fingerprint(path), "annotations": file_fingerprint(annotations_path)},
    )
    if artifact.finished:
        return
    annotations = read_records(annotations_path, Annotation)
    labelled = {one.text_id: one.logprobs for one in annotations if one.task == "sentiment"}
    if not labelled:
        raise ValueError(
            f"difficulty.model={settings.model!r} is compared with the teacher's labels, and it"
            " labelled no sentiment; add sentiment to annotate.tasks."
        )
    texts = [
        text
        for text in read_records(workdir.texts / "train.jsonl", UnlabelledText)
        if text.id in labelled
    ]
    mesh = make_mesh(config.mesh)
    dtype = float_dtype("student.dtype", config.student.dtype)
    model = LocalModel.on_mesh(load_model(path, mesh, dtype=dtype), mesh)
    scored = zero_shot(model, settings.model)(texts)
    unbiased = without_bias(lambda _: scored, texts)(texts)
    found = difficulty(np.array([labelled[text.id] for text in texts]), unbiased)
    _write_difficulty(
        artifact, {text.id: float(one) for text, one in zip(texts, found, strict=True)}
    )


@on_process_zero
def _write_difficulty(artifact: Artifact, found: Mapping[str, float]) -> None:
    artifact.begin()
    write_json(artifact.directory / "difficulty.json", found)
    artifact.finish({"mean_nats": float(np.mean(list(found.values())))})


def check_stage(config: Config) -> None:
    """Refuses a stage that is none of the three.

    Raises:
      ValueError: If it is another.
    """
    if config.stage not in _BUILDERS:
        raise ValueError(f"stage={config.stage!r} must be one of {sorted(_BUILDERS)}.")


@on_process_zero
def build_prompts(config: Config, workdir: Workdir) -> None:
    """Writes the prompts of `config.stage`."""
    texts_path = workdir.texts / "train.jsonl"
    annotations_path = workdir.annotations / "annotations.jsonl"
    check_stage(config)
    load_definitions(config.tasks.files, config.perspectives.files)
    made_from = {
        "settings": config[config.stage].to_dict(),
        "definitions": _definitions(config),
        "seed": config.seed,
        "texts": file_fingerprint(texts_path),
        "annotations": file_fingerprint(annotations_path),
    }
    difficulties = workdir.difficulty(corpus_name(config)) / "difficulty.json"
    if config.difficulty.model:
        made_from |= {
            "difficulty": file_fingerprint(difficulties),
            "hardest": config.difficulty.share,
        }
    artifact = Artifact(workdir.prompts(corpus_name(config)), made_from)
    if artifact.finished:
        return
    texts = read_records(texts_path, UnlabelledText)
    if config.difficulty.model:
        texts = hardest(texts, json.loads(difficulties.read_text()), config.difficulty.share)
    labels: dict[str, dict[str, str]] = defaultdict(dict)
    known = {text.id for text in texts}
    for annotation in read_records(annotations_path, Annotation):
        if annotation.text_id in known:
            labels[annotation.task][annotation.text_id] = annotation.label
    prompts = _BUILDERS[config.stage](config, texts, labels)
    artifact.begin()
    write_records(workdir.prompts(corpus_name(config)) / "prompts.jsonl", prompts, Prompt)
    counts = Counter(prompt.kind for prompt in prompts)
    artifact.finish({"prompts": counts})
    print(f"{corpus_name(config)}: {len(prompts)} prompts of {len(counts)} kinds")


def _definitions(config: Config) -> str:
    """The fingerprint of the perspectives or tasks that the stage uses."""
    if config.stage == "healing":
        return ""
    if config.stage == "knowdist":
        return definitions_fingerprint(PERSPECTIVES, config.knowdist.perspectives.to_dict())
    tasks = config.icldist.tasks.to_dict()
    return definitions_fingerprint(TASKS, tasks and tasks | {"sentiment": 0.0})  # bare prompts


def _knowdist(
    config: Config, texts: Sequence[UnlabelledText], labels: Mapping[str, Mapping[str, str]]
) -> list[Prompt]:
    settings = config.knowdist
    return build_knowdist(
        draw_texts(texts, settings.max_texts or len(texts), key=f"knowdist/{config.seed}"),
        seed=config.seed,
        perspectives=settings.perspectives.to_dict() or None,
        per_text=settings.per_text,
        style=settings.style,
        verdicts=labels.get("sentiment") if settings.conditioned else None,  # type: ignore[arg-type]
    )


def _icldist(
    config: Config, texts: Sequence[UnlabelledText], labels: Mapping[str, Mapping[str, str]]
) -> list[Prompt]:
    settings = config.icldist
    return build_icldist(
        texts,
        seed=config.seed,
        labels=labels,
        count=settings.num_prompts,
        tasks=settings.tasks.to_dict() or None,
        leave_out=settings.leave_out,
        bare_fraction=settings.bare_fraction,
        teacher_shots=settings.teacher_shots,
        student_shots=settings.student_shots,
        minimal_fraction=settings.minimal_fraction,
        draws=settings.draws,
        max_words=settings.max_words,
        max_labels=settings.max_labels,
    )


def _healing(
    config: Config, texts: Sequence[UnlabelledText], labels: Mapping[str, Mapping[str, str]]
) -> list[Prompt]:
    del labels
    count = config.healing.max_texts or len(texts)
    return [
        healing.build_prompt(text)
        for text in draw_texts(texts, count, key=f"healing/{config.seed}")
    ]


_BUILDERS = {"healing": _healing, "knowdist": _knowdist, "icldist": _icldist}
