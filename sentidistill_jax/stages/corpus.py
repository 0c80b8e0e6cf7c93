"""Stage `corpus`: user texts, the teacher's labels for them, and the prompts made of both."""

import pathlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict

from sentidistill_jax.artifact import Artifact, file_fingerprint, write_json
from sentidistill_jax.corpus.build import build_icldist, build_knowdist, distillation_texts
from sentidistill_jax.corpus.icldist import MINIMAL, TASKS, build_prompt
from sentidistill_jax.corpus.leakage import LeakageReport, load_test_sentences
from sentidistill_jax.corpus.records import Prompt, read_records, write_records
from sentidistill_jax.corpus.user_texts import UnlabelledText, UserText, load_user_texts
from sentidistill_jax.distributed import on_process_zero
from sentidistill_jax.language_model import LanguageModel
from sentidistill_jax.settings import Config, sentibench_dir
from sentidistill_jax.teacher.annotate import Annotation, Annotator
from sentidistill_jax.teacher.settings import TeacherSettings
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
    loaded = load_user_texts(
        config.texts.sources,
        pathlib.Path(config.texts.folder),
        held_out_fraction=config.texts.held_out_fraction,
    )
    test_sentences = load_test_sentences(bench) if bench else {}
    kept, leaks = distillation_texts(loaded.texts, test_sentences)
    train = _sample(kept, config.texts.max_per_source)
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
            "read": loaded.counts,
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


def _sample(
    texts: Sequence[UnlabelledText], max_per_source: Mapping[str, int]
) -> list[UnlabelledText]:
    """The first texts of each source by id, which is a hash: a draw that no order changes."""
    by_source: dict[str, list[UnlabelledText]] = defaultdict(list)
    for text in sorted(texts, key=lambda text: text.id):
        by_source[text.source].append(text)
    sampled = [
        text
        for source, of_source in by_source.items()
        for text in of_source[: max_per_source.get(source, 0) or None]
    ]
    return sorted(sampled, key=lambda text: text.id)


def annotate(
    config: Config, workdir: Workdir, load_teacher: Callable[[], LanguageModel] | None = None
) -> None:
    """Has the teacher label training texts in the sentiment tasks; resumes between chunks.

    Args:
      config: See configs/base.py.
      workdir: Holds the texts, and gets the annotations.
      load_teacher: Gives the teacher of the config if it is there already.
    """
    teacher = TeacherSettings.from_section(config.teacher.to_dict())
    journal = workdir.annotations / "journal.jsonl"
    load = load_teacher or (lambda: teacher.load(config.mesh, journal))
    run = _annotate if teacher.spans_processes else on_process_zero(_annotate)
    run(config.annotate, workdir, teacher, load)


def _annotate(
    settings: Config, workdir: Workdir, teacher: TeacherSettings, load: Callable[[], LanguageModel]
) -> None:
    texts_path = workdir.texts / "train.jsonl"
    artifact = Artifact(
        workdir.annotations,
        {
            "annotate": settings.to_dict(),
            "teacher": teacher.identity(),
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
        chosen = _first(texts, settings.tasks[annotator.task])
        scores = annotator.resumable_scores(chosen, workdir.annotations / "parts")
        fitted = annotator.offsets(scores, settings.priors.get(annotator.task))
        annotations += annotator.annotations(chosen, scores, fitted)
        offsets[annotator.task] = fitted.tolist()
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


def _first(texts: Sequence[UnlabelledText], most: int) -> list[UnlabelledText]:
    """At most `most` texts (0: all) in the order of their ids, which are hashes."""
    return list(texts[: most or None])


def check_stage(config: Config) -> None:
    """Refuses a stage that is none of the two.

    Raises:
      ValueError: If it is another.
    """
    if config.stage not in ("knowdist", "icldist"):
        raise ValueError(f"stage={config.stage!r} must be 'knowdist' or 'icldist'.")


@on_process_zero
def build_prompts(config: Config, workdir: Workdir) -> None:
    """Writes the prompts of `config.stage`."""
    texts_path = workdir.texts / "train.jsonl"
    annotations_path = workdir.annotations / "annotations.jsonl"
    check_stage(config)
    artifact = Artifact(
        workdir.prompts(config.stage),
        {
            "settings": config[config.stage].to_dict(),
            "seed": config.seed,
            "texts": file_fingerprint(texts_path),
            "annotations": file_fingerprint(annotations_path),
        },
    )
    if artifact.finished:
        return
    texts = read_records(texts_path, UnlabelledText)
    labels: dict[str, dict[str, str]] = defaultdict(dict)
    for annotation in read_records(annotations_path, Annotation):
        labels[annotation.task][annotation.text_id] = annotation.label
    build = _knowdist if config.stage == "knowdist" else _icldist
    prompts = list(build(config, texts, labels))
    artifact.begin()
    write_records(workdir.prompts(config.stage) / "prompts.jsonl", prompts, Prompt)
    counts = Counter(prompt.kind for prompt in prompts)
    artifact.finish({"prompts": counts})
    print(f"{config.stage}: {len(prompts)} prompts of {len(counts)} kinds")


def _knowdist(
    config: Config, texts: Sequence[UnlabelledText], labels: Mapping[str, Mapping[str, str]]
) -> list[Prompt]:
    settings = config.knowdist
    return build_knowdist(
        _first(texts, settings.max_texts),
        seed=config.seed,
        perspectives=settings.perspectives.to_dict() or None,
        per_text=settings.per_text,
        verdicts=labels.get("sentiment") if settings.conditioned else None,  # type: ignore[arg-type]
    )


def _icldist(
    config: Config, texts: Sequence[UnlabelledText], labels: Mapping[str, Mapping[str, str]]
) -> Iterator[Prompt]:
    settings = config.icldist
    known = [
        name
        for name, task in TASKS.items()
        if task.gold is not None or not task.labels or name in labels
    ]
    weights = settings.tasks.to_dict() or dict.fromkeys(known, 1.0)
    diversified = build_icldist(
        _first(texts, settings.max_texts),
        seed=config.seed,
        labels=labels,
        tasks=weights,
        per_text=settings.per_text,
        teacher_shots=settings.teacher_shots,
        student_shots=settings.student_shots,
        minimal_fraction=settings.minimal_fraction,
        draws=settings.draws,
    )
    for prompt in diversified:
        computed = prompt.answer is not None or not prompt.label_words
        if computed or prompt.text_id in labels[prompt.kind]:
            yield prompt
    for text in _first(texts, settings.plain_texts):
        if text.id in labels["sentiment"]:
            yield build_prompt("sentiment", text, (), MINIMAL, 0)
