"""Stage `teach`: a loaded teacher answers a corpus, and its cache is written."""

import dataclasses
import functools
import pathlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import jax
from transformers import PreTrainedTokenizerBase

from sentidistill_jax import sharding
from sentidistill_jax.artifact import Artifact, file_fingerprint, fingerprint
from sentidistill_jax.corpus.records import Prompt, read_records
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.data.teacher_cache import CacheManifest, CacheReader, CacheWriter, open_cache
from sentidistill_jax.inference.engine import Engine
from sentidistill_jax.inference.label_scoring import score_labels
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.models.load import LoadedModel, load_model, tokenizer_fingerprint
from sentidistill_jax.settings import Config, compute_dtype
from sentidistill_jax.stages.endpoint import served, teach_from_endpoint, teacher_settings
from sentidistill_jax.teacher.annotate import Annotation, LabelTeacher
from sentidistill_jax.teacher.capture import Capture
from sentidistill_jax.teacher.filters import reject_reason
from sentidistill_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A teacher ready to answer."""

    model: LoadedModel
    engine: Engine

    @classmethod
    def load(cls, config: Config) -> "Teacher":
        """Loads `config.teacher` on `config.mesh`."""
        mesh = sharding.make_mesh(config.mesh)
        dtype = compute_dtype("teacher", config.teacher.dtype)
        model = load_model(config.teacher.source, mesh, dtype=dtype)
        return cls(model, make_engine(model, mesh, config.teacher.tokens_per_batch))

    def labeller(self, task: str, settings: Config) -> LabelTeacher:
        """The teacher as a labeller of one task, with `config.annotate`'s demonstrations."""
        scores = functools.partial(score_labels, self.engine, self.model.tokenizer)
        return LabelTeacher(scores, task, settings.k_shot, settings.draws)


def make_engine(model: LoadedModel, mesh: jax.sharding.Mesh, tokens_per_batch: int) -> Engine:
    """An engine for a loaded model."""
    tokenizer = model.tokenizer
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    return Engine(model.decoder, mesh, pad_id=int(pad), tokens_per_batch=tokens_per_batch)  # type: ignore[arg-type]


def teach(config: Config, workdir: Workdir, load_teacher: Callable[[], Teacher]) -> None:
    """Writes the teacher cache of `config.stage`; resumes at the first missing shard.

    The teacher first answers every prompt into a draft. What it wrote itself is then filtered, and
    the cache holds the rest.
    """
    if served(config):
        teach_from_endpoint(config, workdir)
        return
    cache = workdir.cache(config.stage)
    prompts_path = workdir.prompts(config.stage) / "prompts.jsonl"
    artifact = Artifact(
        cache,
        {
            "corpus": file_fingerprint(prompts_path),
            "teacher": teacher_settings(config),
            "generation": config.generation.to_dict(),
            "cache": config.cache.to_dict(),
            "seed": config.seed,
        },
    )
    if artifact.finished:
        return
    sampling = SamplingConfig(**config.generation.to_dict())
    teacher = load_teacher()
    prompts = read_records(prompts_path, Prompt)
    annotations = read_records(workdir.annotations / "annotations.jsonl", Annotation)
    tokenizer = teacher.model.tokenizer
    capture = Capture(
        teacher.engine,
        tokenizer,
        teacher_fingerprint=teacher.model.fingerprint,
        sampling=sampling,
        annotations={(a.task, a.text_id): a for a in annotations},
        seed=config.seed,
    )
    manifest = CacheManifest(
        teacher_fingerprint=teacher.model.fingerprint,
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
        chat_template_fingerprint=fingerprint(tokenizer.chat_template),
        corpus_fingerprint=file_fingerprint(prompts_path),
        vocab_size=teacher.model.decoder.config.vocab_size,
        top_k=config.cache.top_k,
        mode=config.cache.mode,
        temperatures=tuple(config.cache.temperatures),
        codec=config.cache.codec,
        num_records=len(prompts),
        records_per_shard=config.cache.records_per_shard,
        config={"generation": config.generation.to_dict(), "seed": config.seed},
    )
    artifact.begin()
    capture.run(prompts, cache / "draft", manifest)
    texts = read_records(workdir.texts / "train.jsonl", UnlabelledText)
    filtered = _filter(
        open_cache(cache / "draft"),
        prompts,
        {t.id: t.text for t in texts},
        tokenizer,
        cache / "records",
    )
    artifact.finish(filtered)
    rejected = {reason: count for reason, count in filtered.items() if reason != "kept"}
    print(f"teach {config.stage}: {filtered['kept']} answers kept, not kept: {rejected}")


def _filter(
    draft: CacheReader,
    prompts: Sequence[Prompt],
    texts: Mapping[str, str],
    tokenizer: PreTrainedTokenizerBase,
    directory: pathlib.Path,
) -> dict[str, int]:
    """Copies the records worth learning into the final cache; returns counts by reason."""
    reasons: Counter[str] = Counter()
    kept = []
    for index, prompt in enumerate(prompts):
        reason = None
        if not prompt.label_words and prompt.answer is None:
            record = draft[index]
            answer = str(tokenizer.decode(record.tokens[record.completion_start :]))
            reason = reject_reason(texts[prompt.text_id], answer, stopped=answer.endswith("\n"))
        reasons[reason or "kept"] += 1
        if reason is None:
            kept.append(index)
    if not kept:
        raise ValueError(
            f"none of the teacher's {len(prompts)} answers is worth learning ({dict(reasons)});"
            " raise generation.max_new_tokens or use a stronger teacher."
        )
    writer = CacheWriter(
        directory, dataclasses.replace(draft.manifest, num_records=len(kept), shards=())
    )
    for shard in writer.missing_shards():
        start, stop = writer.shard_range(shard)
        writer.write_shard(shard, [draft[index] for index in kept[start:stop]])
    writer.finish()
    return dict(reasons)
