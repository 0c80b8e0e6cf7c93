"""Stage `teach`: a loaded teacher answers a corpus, and its cache is written."""

import dataclasses
import pathlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import jax
from transformers import PreTrainedTokenizerBase

from sentidistill_jax import distributed
from sentidistill_jax.artifact import Artifact, fingerprint
from sentidistill_jax.corpus.records import Prompt, read_records
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.data.teacher_cache import (
    TEXT_MODE,
    CacheManifest,
    CacheRecord,
    CacheWriter,
    open_cache,
)
from sentidistill_jax.distributed import by_leader
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.models.load import tokenizer_fingerprint
from sentidistill_jax.settings import Config
from sentidistill_jax.stages.endpoint import cache_inputs, served, teach_from_endpoint
from sentidistill_jax.stages.teacher import Teacher, cache_manifest
from sentidistill_jax.stages.vocabularies import ForeignStudent, foreign_student
from sentidistill_jax.teacher.annotate import Annotation
from sentidistill_jax.teacher.answers import Annotations, is_free
from sentidistill_jax.teacher.capture import Capture
from sentidistill_jax.teacher.filters import reject_reason
from sentidistill_jax.teacher.text_records import text_record
from sentidistill_jax.workdir import Workdir


def teach(config: Config, workdir: Workdir, load_teacher: Callable[[], Teacher]) -> None:
    """Writes the teacher cache of `config.stage`; resumes at the first missing shard.

    All processes of a run call this; they divide the shards, on a file system that they share. The
    teacher first answers every prompt into a draft. What it wrote itself is then filtered, and the
    cache holds the rest. For a student of other tokens it only writes, and the cache holds its text
    and labels in the student's.

    Raises:
      ValueError: If a student of other tokens is to learn distributions, or no answer is worth
        learning.
    """
    if served(config):
        teach_from_endpoint(config, workdir)
        return
    cache = workdir.cache(config.stage)
    prompts_path = workdir.prompts(config.stage) / "prompts.jsonl"
    foreign = foreign_student(config, workdir)
    artifact = Artifact(
        cache,
        {
            **cache_inputs(config, prompts_path),
            **({"tokenizer": tokenizer_fingerprint(foreign.tokenizer)} if foreign else {}),
        },
    )
    if artifact.finished:
        return
    if foreign and distributed.is_leader():
        print(f"teach {config.stage}: text and labels alone, as the student reads other tokens")
    sampling = SamplingConfig(**config.generation.to_dict())
    teacher = load_teacher()
    prompts = read_records(prompts_path, Prompt)
    labels = read_records(workdir.annotations / "annotations.jsonl", Annotation)
    annotations = {(a.task, a.text_id): a for a in labels}
    tokenizer = teacher.model.tokenizer
    capture = Capture(
        teacher.engine,
        tokenizer,
        teacher_fingerprint=teacher.model.fingerprint,
        sampling=sampling,
        annotations=annotations,
        seed=config.seed,
    )
    manifest = cache_manifest(config, teacher.model, prompts_path, len(prompts))
    by_leader(artifact.begin)()
    asked = _Asked(capture, tokenizer, prompts, annotations, cache / "draft", manifest)
    answers = _captured(asked) if foreign is None else _written(asked, foreign)
    texts = read_records(workdir.texts / "train.jsonl", UnlabelledText)
    kept, counts = _worth_learning(prompts, {t.id: t.text for t in texts}, answers.written)
    _write(cache / "records", answers, kept)
    if not distributed.is_leader():
        return
    artifact.finish(counts)
    rejected = {reason: count for reason, count in counts.items() if reason != "kept"}
    print(f"teach {config.stage}: {counts['kept']} answers kept, not kept: {rejected}")


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A teacher and what it is asked."""

    capture: Capture
    tokenizer: PreTrainedTokenizerBase  # the teacher's
    prompts: Sequence[Prompt]
    annotations: Annotations
    draft: pathlib.Path  # directory of the cache that gets its answers as they come
    manifest: CacheManifest  # of that cache, were it to hold all of them with all that is known


@dataclasses.dataclass(frozen=True)
class _Answers:
    """What the teacher said, found by the index of a prompt."""

    manifest: CacheManifest  # of a cache with all of it
    written: Callable[[int], str]  # what the teacher wrote itself, with a newline if it came to one
    record: Callable[[int], CacheRecord]


def _captured(asked: _Asked) -> _Answers:
    """Answers with the teacher's distributions, for a student of the same tokens."""
    asked.capture.run(asked.prompts, asked.draft, asked.manifest)
    draft = open_cache(asked.draft)
    return _Answers(
        asked.manifest, lambda index: _completion(draft[index], asked.tokenizer), draft.__getitem__
    )


def _written(asked: _Asked, student: ForeignStudent) -> _Answers:
    """Answers as text and labels alone, in the tokens of the student.

    Only what the teacher writes itself is asked; all else is annotated or computed already.
    """
    manifest = dataclasses.replace(
        asked.manifest, mode="top_k", top_k=1, top_p=None, num_draws=None, temperatures=(1.0,)
    )
    free = [index for index, prompt in enumerate(asked.prompts) if is_free(prompt)]
    if free:
        prompts = [asked.prompts[index] for index in free]
        asked.capture.run(
            prompts, asked.draft, dataclasses.replace(manifest, num_records=len(free))
        )
    draft = open_cache(asked.draft) if free else []
    places = {index: place for place, index in enumerate(free)}

    def written(index: int) -> str:
        return _completion(draft[places[index]], asked.tokenizer)

    def record(index: int) -> CacheRecord:
        line = written(index).split("\n")[0] if index in places else None
        return text_record(
            student.tokenizer,
            asked.prompts[index],
            line,
            asked.annotations,
            manifest.teacher_fingerprint,
        )

    of_student = dataclasses.replace(
        manifest,
        mode=TEXT_MODE,
        tokenizer_fingerprint=tokenizer_fingerprint(student.tokenizer),
        chat_template_fingerprint=fingerprint(student.tokenizer.chat_template),
        vocab_size=student.vocab_size,
        config={**manifest.config, "vocabularies": student.vocabularies},
    )
    return _Answers(of_student, written, record)


def _completion(record: CacheRecord, tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(record.tokens[record.completion_start :]))


def _worth_learning(
    prompts: Sequence[Prompt], texts: Mapping[str, str], written: Callable[[int], str]
) -> tuple[list[int], dict[str, int]]:
    """Indices of the prompts whose answers the final cache gets, and counts of all by reason.

    Every process reads the whole draft and so comes to the same choice.
    """
    reasons: Counter[str] = Counter()
    kept = []
    for index, prompt in enumerate(prompts):
        reason = None
        if is_free(prompt):
            answer = written(index)
            about, stopped = texts[prompt.text_id], answer.endswith("\n")
            reason = reject_reason(prompt, about, answer, stopped=stopped)
        reasons[reason or "kept"] += 1
        if reason is None:
            kept.append(index)
    if not kept:
        raise ValueError(
            f"none of the teacher's {len(prompts)} answers is worth learning ({dict(reasons)});"
            " raise generation.max_new_tokens or use a stronger teacher."
        )
    return kept, dict(reasons)


def _write(directory: pathlib.Path, answers: _Answers, kept: Sequence[int]) -> None:
    """Writes the records of some prompts; processes divide the shards."""
    manifest = dataclasses.replace(answers.manifest, num_records=len(kept))
    writer = CacheWriter(directory, manifest)
    missing = writer.missing_shards()
    distributed.wait_for_all("missing shards of the final cache are known")
    for shard in missing:
        if shard % jax.process_count() == jax.process_index():
            start, stop = writer.shard_range(shard)
            writer.write_shard(shard, [answers.record(index) for index in kept[start:stop]])
    distributed.wait_for_all("shards of the final cache are written")
    if distributed.is_leader():
        writer.finish()
