"""Stage `teach`: a teacher, loaded or served, answers a corpus, and its cache is written."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from sentidistill_jax.artifact import Artifact, file_fingerprint, fingerprint
from sentidistill_jax.corpus.definition_files import load_definitions
from sentidistill_jax.corpus.records import Prompt, read_records
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.data.teacher_cache import MODES, TEXT_MODE, CacheManifest, is_whole
from sentidistill_jax.distributed import is_process_zero, on_process_zero
from sentidistill_jax.endpoint.client import Endpoint
from sentidistill_jax.endpoint.journal import Journal
from sentidistill_jax.endpoint.model import EndpointModel
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.language_model import LanguageModel
from sentidistill_jax.models.load import load_config, load_tokenizer, tokenizer_fingerprint
from sentidistill_jax.settings import Config, corpus_name
from sentidistill_jax.teacher.annotate import Annotation, Annotator
from sentidistill_jax.teacher.answers import CaptureJob
from sentidistill_jax.teacher.capture import TeacherAnswers, capture, totals
from sentidistill_jax.teacher.cross_tokenizer import cross_tokenizer_student, refuse_trimmed
from sentidistill_jax.teacher.local_answers import LocalAnswers, LocalTextAnswers
from sentidistill_jax.teacher.sentiment_check import SentimentCheck
from sentidistill_jax.teacher.served_answers import ServedAnswers
from sentidistill_jax.teacher.settings import TeacherSettings
from sentidistill_jax.training.objectives import make_objective
from sentidistill_jax.workdir import Workdir


def teach(
    config: Config, workdir: Workdir, load_teacher: Callable[[], LocalModel] | None = None
) -> None:
    """Writes the teacher cache of the config's corpus; resumes at the first missing shard.

    Of a finished cache every file is read, and shards that are missing or damaged are asked anew.

    All processes of a run call this, on a file system that they share. What the teacher writes
    itself is filtered as it comes.

    Args:
      config: See configs/base.py.
      workdir: Holds the corpus, and gets the cache.
      load_teacher: Gives the teacher of the config if it is there already; not for a served one.

    Raises:
      ValueError: If a setting cannot be captured, a student of other tokens is to learn
        distributions, or no answer is worth learning.
      EndpointError: If a server fails for good, or its key is not in the environment.
    """
    load_definitions(config.tasks.files, config.perspectives.files)
    teacher = TeacherSettings.from_section(config.teacher.to_dict())
    if teacher.endpoint is not None:
        on_process_zero(_teach_served)(config, workdir, teacher)
    else:
        load = load_teacher or (lambda: teacher.load_local(config.mesh))
        _teach_local(config, workdir, teacher, load)


def _teach_local(
    config: Config, workdir: Workdir, teacher: TeacherSettings, load: Callable[[], LocalModel]
) -> None:
    objective = make_objective(config.objective.to_dict())
    student = None
    # A student that is yet to be cut, perhaps by this very cache, is taken for one of the teacher's
    # tokens; `train` refuses what does not fit.
    if (path := workdir.find_model(config.student.source)) is not None:
        student = cross_tokenizer_student(
            config.student.source,
            path,
            teacher.source,
            alpha=config.objective.alpha,
            needs_distributions=objective.needs_distributions,
        )
    artifact = _artifact(config, workdir, teacher, student and student.tokenizer)
    if artifact.finished and is_whole(artifact.directory / "records"):
        return
    job, prompts = _job(config, workdir)
    model = load()
    manifest = _manifest(
        config,
        workdir,
        teacher=teacher.identity(),
        teacher_fingerprint=model.loaded.fingerprint,
        num_prompts=len(prompts),
        **_tokens(model.tokenizer, model.loaded.decoder.config.vocab_size),
    )
    sentiment = _sentiment_check(config, workdir, model, job)
    if student is None:
        answers: TeacherAnswers = LocalAnswers(model, job, manifest, sentiment=sentiment)
    else:
        if is_process_zero():
            name = corpus_name(config)
            print(f"teach {name}: text and labels alone, as the student reads other tokens")
        answers = LocalTextAnswers(model, job, student.tokenizer, sentiment=sentiment)
        manifest = dataclasses.replace(
            manifest,
            **_tokens(student.tokenizer, student.vocab_size),
            mode=TEXT_MODE,
            top_k=1,
            top_p=None,
            num_draws=None,
            temperatures=(1.0,),
            config={**manifest.config, "vocabularies": student.vocabularies},
        )
    on_process_zero(artifact.begin)()
    counts = capture(answers, prompts, artifact.directory / "records", manifest)
    _finish(artifact, corpus_name(config), counts)


def _teach_served(config: Config, workdir: Workdir, teacher: TeacherSettings) -> None:
    """Answers go to `journal.jsonl` as they come; the shards are written from there."""
    settings, cache = teacher.endpoint, config.cache
    assert settings is not None
    if config.generation.min_p:
        raise ValueError(
            f"generation.min_p={config.generation.min_p} is no field of OpenAI's protocol; where"
            " the server knows it, set it in teacher.endpoint.extra_body and generation.min_p=0."
        )
    if cache.mode != "top_k" or tuple(cache.temperatures) != (1.0,):
        raise ValueError(
            f"cache.mode={cache.mode!r} with cache.temperatures={tuple(cache.temperatures)} cannot"
            " be captured from a server, which lists the likeliest tokens at temperature 1; use"
            " 'top_k' and (1.0,)."
        )
    student = workdir.model_source(config.student.source)
    refuse_trimmed(config.student.source, student)
    tokenizer = load_tokenizer(student)
    artifact = _artifact(config, workdir, teacher, tokenizer)
    if artifact.finished and is_whole(artifact.directory / "records"):
        return
    job, prompts = _job(config, workdir)
    with Journal(artifact.directory / "journal.jsonl") as journal:
        endpoint = Endpoint(settings, journal)
        artifact.begin()
        top_k = max(1, min(cache.top_k, settings.top_logprobs))
        sentiment = _sentiment_check(config, workdir, EndpointModel(settings, journal), job)
        answers = ServedAnswers(endpoint, tokenizer, job, top_k=top_k, sentiment=sentiment)
        found = answers.capabilities
        what = "text and token targets" if found.token_targets else "text alone"
        print(f"teach {corpus_name(config)}: {endpoint.model} gives {what} ({found.reason})")
        objective = make_objective(config.objective.to_dict())
        if not found.token_targets and objective.needs_distributions:
            print(f"  training needs --config.objective.alpha=0, it is {config.objective.alpha}")
        answers.ask(prompts)
        asked = {"models": sorted(journal.models), "capabilities": dataclasses.asdict(found)}
        manifest = _manifest(
            config,
            workdir,
            teacher={**teacher.identity(), **asked},
            teacher_fingerprint=answers.fingerprint,
            num_prompts=len(prompts),
            top_k=top_k,
            mode=cache.mode if found.token_targets else TEXT_MODE,
            **_tokens(tokenizer, load_config(student).vocab_size),
        )
        counts = capture(answers, prompts, artifact.directory / "records", manifest)
    _finish(artifact, corpus_name(config), counts)


def _artifact(
    config: Config,
    workdir: Workdir,
    teacher: TeacherSettings,
    tokenizer: PreTrainedTokenizerBase | None,
) -> Artifact:
    """The cache's directory; `tokenizer` is that of its tokens where it is not the teacher's."""
    made_from = {
        "corpus": file_fingerprint(_prompts_path(config, workdir)),
        "teacher": teacher.made_from(),
        "generation": config.generation.to_dict(),
        "cache": config.cache.to_dict(),
        "seed": config.seed,
    }
    if tolerated := _tolerated(config):
        made_from["tolerate"] = sorted(tolerated)
    if not _score_known(config):
        made_from["score_known"] = False
    if tokenizer is not None:
        made_from["tokenizer"] = tokenizer_fingerprint(tokenizer)
    return Artifact(workdir.cache(corpus_name(config)), made_from)


def _job(config: Config, workdir: Workdir) -> tuple[CaptureJob, list[Prompt]]:
    annotations = read_records(workdir.annotations / "annotations.jsonl", Annotation)
    texts = read_records(workdir.texts / "train.jsonl", UnlabelledText)
    job = CaptureJob(
        texts={text.id: text.text for text in texts},
        annotations={(one.task, one.text_id): one for one in annotations},
        sampling=SamplingConfig(**config.generation.to_dict()),
        seed=config.seed,
        tolerated=_tolerated(config),
        score_known=_score_known(config),
    )
    return job, read_records(_prompts_path(config, workdir), Prompt)


def _tolerated(config: Config) -> frozenset[str]:
    return frozenset(config.knowdist.tolerate if config.stage == "knowdist" else ())


def _score_known(config: Config) -> bool:
    return config.stage != "icldist" or config.icldist.score_known


def _sentiment_check(
    config: Config, workdir: Workdir, model: LanguageModel, job: CaptureJob
) -> SentimentCheck | None:
    """What rewritten texts are checked with; None where the teacher did not label sentiment."""
    fitted = workdir.annotations / "offsets.json"
    offsets = json.loads(fitted.read_text()).get("sentiment") if fitted.exists() else None
    if offsets is None:
        return None
    annotator = Annotator(model, "sentiment", config.annotate.k_shot, config.annotate.draws)
    return SentimentCheck(annotator, np.asarray(offsets), job.annotations)


def _manifest(config: Config, workdir: Workdir, **fields: Any) -> CacheManifest:
    """What the cache of `config.cache` is made from; `fields` are those that depend on the teacher.

    Raises:
      ValueError: If the settings do not fit together.
    """
    cache, generation = config.cache, config.generation.to_dict()
    if cache.mode not in MODES:
        raise ValueError(f"cache.mode={cache.mode!r} must be one of {list(MODES)}.")
    teacher = fields.pop("teacher")
    common: dict[str, Any] = {
        "corpus_fingerprint": file_fingerprint(_prompts_path(config, workdir)),
        "top_k": cache.top_k,
        "mode": cache.mode,
        "top_p": cache.top_p if cache.mode == "top_p" else None,
        "num_draws": cache.num_draws if cache.mode == "sampled" else None,
        "temperatures": tuple(cache.temperatures),
        "codec": cache.codec,
        "records_per_shard": cache.records_per_shard,
        "config": {"teacher": teacher, "generation": generation, "seed": config.seed},
    }
    return CacheManifest(**common | fields)


def _tokens(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> dict[str, Any]:
    """What a manifest says of the tokens that a cache is kept in."""
    return {
        "tokenizer_fingerprint": tokenizer_fingerprint(tokenizer),
        "chat_template_fingerprint": fingerprint(tokenizer.chat_template),
        "vocab_size": vocab_size,
    }


def _prompts_path(config: Config, workdir: Workdir) -> pathlib.Path:
    return workdir.prompts(corpus_name(config)) / "prompts.jsonl"


@on_process_zero
def _finish(artifact: Artifact, corpus: str, counts: Mapping[str, Mapping[str, int]]) -> None:
    artifact.finish({"answers": counts})
    print(_summary(corpus, counts))


def _summary(corpus: str, counts: Mapping[str, Mapping[str, int]]) -> str:
    """What is kept in all, and of each kind of which something is not, by reason."""
    total = totals(counts)
    lines = [f"teach {corpus}: {total.pop('kept')} answers kept, not kept: {total}"]
    for kind, of_kind in counts.items():
        rejected = {reason: number for reason, number in of_kind.items() if reason != "kept"}
        if rejected:
            lines.append(f"  {kind}: {of_kind.get('kept', 0)} kept, not kept: {rejected}")
    return "\n".join(lines)
