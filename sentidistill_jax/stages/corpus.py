"""Stage `corpus`: user texts, the teacher's labels for them, and the prompts made of both."""

import os
import pathlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import numpy as np

from sentidistill_jax.artifact import Artifact, file_fingerprint, write_json
from sentidistill_jax.corpus.build import build_icldist, build_knowdist, distillation_texts
from sentidistill_jax.corpus.definitions import definitions_fingerprint
from sentidistill_jax.corpus.icldist import TASKS
from sentidistill_jax.corpus.leakage import LeakageReport, load_test_sentences
from sentidistill_jax.corpus.perspectives import PERSPECTIVES
from sentidistill_jax.corpus.records import Prompt, read_records, write_records
from sentidistill_jax.corpus.sampling import cap_sources, draw_texts
from sentidistill_jax.corpus.user_texts import UnlabelledText, UserText, load_user_texts
from sentidistill_jax.distributed import by_leader
from sentidistill_jax.settings import Config
from sentidistill_jax.stages.endpoint import EndpointTeacher, teacher_settings
from sentidistill_jax.stages.teacher import Teacher, run_by_askers
from sentidistill_jax.teacher.annotate import Annotation
from sentidistill_jax.workdir import Workdir

_CHUNK = 256  # texts between two saves while labelling


def sentibench_dir(config: Config) -> pathlib.Path | None:
    """The SentiBench folder that the config or the environment names, or None.

    Raises:
      FileNotFoundError: If it is named but not there.
    """
    named = config.texts.sentibench_dir or os.environ.get("SENTIBENCH_DIR", "")
    if not named:
        return None
    if not pathlib.Path(named).is_dir():
        raise FileNotFoundError(
            f"SentiBench folder {named!r} not found; set SENTIBENCH_DIR or"
            " --config.texts.sentibench_dir to it, or to nothing."
        )
    return pathlib.Path(named)


@by_leader
def prepare_texts(config: Config, workdir: Workdir) -> None:
    """Reads, cleans, guards and samples the user texts, once per working directory."""
    bench = sentibench_dir(config)
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
        max_words=config.texts.max_words,
        long_texts=config.texts.long_texts,
    )
    print(f"texts read:\n{loaded.summary()}")
    test_sentences = load_test_sentences(bench) if bench else {}
    kept, leaks = distillation_texts(loaded.texts, test_sentences)
    train = cap_sources(kept, config.texts.max_per_source, key=f"texts/{config.seed}")
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
            "truncated": loaded.truncated,
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
    config: Config, workdir: Workdir, load_teacher: Callable[[], Teacher | EndpointTeacher]
) -> None:
    """Has the teacher label training texts in the sentiment tasks; resumes between chunks."""
    run_by_askers(_annotate, config)(config, workdir, load_teacher)


def _annotate(
    config: Config, workdir: Workdir, load_teacher: Callable[[], Teacher | EndpointTeacher]
) -> None:
    texts_path = workdir.texts / "train.jsonl"
    artifact = Artifact(
        workdir.annotations,
        {
            "annotate": config.annotate.to_dict(),
            "teacher": teacher_settings(config),
            "texts": file_fingerprint(texts_path),
        },
    )
    if artifact.finished:
        return
    unused = sorted(set(config.annotate.priors) - set(config.annotate.tasks))
    if unused:
        raise ValueError(f"annotate.priors has {unused}, which annotate.tasks lacks.")
    teacher = load_teacher()
    labellers = {task: teacher.labeller(task, config.annotate) for task in config.annotate.tasks}
    for task, labeller in labellers.items():
        labeller.prior(config.annotate.priors.get(task))
    by_leader(artifact.begin)()
    texts = read_records(texts_path, UnlabelledText)
    annotations: list[Annotation] = []
    offsets: dict[str, list[list[float]]] = {}
    for task, most in config.annotate.tasks.items():
        fitting = [text for text in texts if TASKS[task].applies_to(text)]
        chosen = draw_texts(fitting, most or len(fitting), key=f"annotate/{config.seed}/{task}")
        labeller = labellers[task]
        parts = []
        for start in range(0, len(chosen), _CHUNK):
            part = workdir.annotations / "parts" / f"{task}-{start:06d}.npy"
            chunk = chosen[start : start + _CHUNK]
            if not part.exists():
                progress = f"label {task} {start + len(chunk)}/{len(chosen)}"
                _save(part, labeller.scores(chunk, progress=progress))
            parts.append(np.load(part))
        scores = np.concatenate(parts)
        fitted = labeller.offsets(scores, config.annotate.priors.get(task))
        annotations += labeller.annotations(chosen, scores, fitted)
        offsets[task] = fitted.tolist()
    _write_annotations(artifact, annotations, offsets)


@by_leader
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


@by_leader
def _save(path: pathlib.Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npy")
    np.save(temporary, array)
    temporary.rename(path)


def check_stage(config: Config) -> None:
    """Refuses a stage that is none of the two.

    Raises:
      ValueError: If it is another.
    """
    if config.stage not in ("knowdist", "icldist"):
        raise ValueError(f"stage={config.stage!r} must be 'knowdist' or 'icldist'.")


@by_leader
def build_prompts(config: Config, workdir: Workdir) -> None:
    """Writes the prompts of `config.stage`."""
    texts_path = workdir.texts / "train.jsonl"
    annotations_path = workdir.annotations / "annotations.jsonl"
    check_stage(config)
    artifact = Artifact(
        workdir.prompts(config.stage),
        {
            "settings": config[config.stage].to_dict(),
            "definitions": _definitions(config),
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
    prompts = build(config, texts, labels)
    artifact.begin()
    write_records(workdir.prompts(config.stage) / "prompts.jsonl", prompts, Prompt)
    counts = Counter(prompt.kind for prompt in prompts)
    artifact.finish({"prompts": counts})
    print(f"{config.stage}: {len(prompts)} prompts of {len(counts)} kinds")


def _definitions(config: Config) -> str:
    """The fingerprint of the perspectives or tasks that the stage uses."""
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
        bare_fraction=settings.bare_fraction,
        teacher_shots=settings.teacher_shots,
        student_shots=settings.student_shots,
        minimal_fraction=settings.minimal_fraction,
        draws=settings.draws,
        max_words=settings.max_words,
    )
