"""Stage `teach`: a loaded teacher answers a corpus, and its cache is written."""

import dataclasses
import functools
import pathlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import jax
from transformers import PreTrainedTokenizerBase

from sentidistill_jax import distributed, sharding
from sentidistill_jax.artifact import Artifact, file_fingerprint, fingerprint
from sentidistill_jax.corpus.records import Prompt, read_records
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.data.teacher_cache import (
    MODES,
    CacheManifest,
    CacheReader,
    CacheWriter,
    open_cache,
)
from sentidistill_jax.distributed import Arguments, by_leader
from sentidistill_jax.inference.engine import Engine
from sentidistill_jax.inference.label_scoring import score_labels
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.models.load import LoadedModel, load_model, tokenizer_fingerprint
from sentidistill_jax.settings import Config, float_dtype
from sentidistill_jax.stages.endpoint import (
    EndpointTeacher,
    served,
    teach_from_endpoint,
    teacher_settings,
)
from sentidistill_jax.stages.vocabularies import check_vocabularies
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
        """Loads `config.teacher` on `config.mesh`, over this process's devices or those of all."""
        devices = jax.local_devices() if config.teacher.per_process else jax.devices()
        mesh = sharding.make_mesh(config.mesh, devices)
        dtype = float_dtype("teacher.dtype", config.teacher.dtype)
        model = load_model(config.teacher.source, mesh, dtype=dtype)
        return cls(model, make_engine(model, mesh, config.teacher.tokens_per_batch))

    def labeller(self, task: str, settings: Config) -> LabelTeacher:
        """The teacher as a labeller of one task, with `config.annotate`'s demonstrations."""
        scores = functools.partial(score_labels, self.engine, self.model.tokenizer)
        return LabelTeacher(scores, task, settings.k_shot, settings.draws)


def load_teacher(config: Config, workdir: Workdir) -> Teacher | EndpointTeacher:
    """The teacher of the config; the answers of a served one are kept beside its labels."""
    if served(config):
        return EndpointTeacher.load(config, workdir.annotations / "journal.jsonl")
    return Teacher.load(config)


def run_by_askers(
    stage: Callable[Arguments, object], config: Config
) -> Callable[Arguments, object]:
    """A stage that asks the teacher of the config, as the processes that ask it run it.

    All do where one teacher spans them. A server, or a teacher that each process has for itself,
    is asked by process 0 alone.
    """
    return by_leader(stage) if served(config) or config.teacher.per_process else stage


def make_engine(model: LoadedModel, mesh: jax.sharding.Mesh, tokens_per_batch: int) -> Engine:
    """An engine for a loaded model."""
    tokenizer = model.tokenizer
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    return Engine(model.decoder, mesh, pad_id=int(pad), tokens_per_batch=tokens_per_batch)  # type: ignore[arg-type]


def cache_manifest(
    config: Config, model: LoadedModel, prompts_path: pathlib.Path, num_records: int
) -> CacheManifest:
    """What the cache of `config.cache` by this teacher over these prompts is made from.

    Raises:
      ValueError: If the settings do not fit together.
    """
    cache = config.cache
    if cache.mode not in MODES:
        raise ValueError(f"cache.mode={cache.mode!r} must be one of {list(MODES)}.")
    return CacheManifest(
        teacher_fingerprint=model.fingerprint,
        tokenizer_fingerprint=tokenizer_fingerprint(model.tokenizer),
        chat_template_fingerprint=fingerprint(model.tokenizer.chat_template),
        corpus_fingerprint=file_fingerprint(prompts_path),
        vocab_size=model.decoder.config.vocab_size,
        top_k=cache.top_k,
        mode=cache.mode,
        top_p=cache.top_p if cache.mode == "top_p" else None,
        num_draws=cache.num_draws if cache.mode == "sampled" else None,
        temperatures=tuple(cache.temperatures),
        codec=cache.codec,
        num_records=num_records,
        records_per_shard=cache.records_per_shard,
        config={
            "teacher": config.teacher.to_dict(),
            "generation": config.generation.to_dict(),
            "seed": config.seed,
        },
    )


def teach(config: Config, workdir: Workdir, load_teacher: Callable[[], Teacher]) -> None:
    """Writes the teacher cache of `config.stage`; resumes at the first missing shard.

    All processes of a run call this; they divide the shards, on a file system that they share. The
    teacher first answers every prompt into a draft. What it wrote itself is then filtered, and the
    cache holds the rest.

    Raises:
      ValueError: If the student's tokens are not the teacher's, or no answer is worth learning.
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
    check_vocabularies(config, workdir)
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
    manifest = cache_manifest(config, teacher.model, prompts_path, len(prompts))
    by_leader(artifact.begin)()
    capture.run(prompts, cache / "draft", manifest)
    texts = read_records(workdir.texts / "train.jsonl", UnlabelledText)
    filtered = _filter(
        open_cache(cache / "draft"),
        prompts,
        {t.id: t.text for t in texts},
        tokenizer,
        cache / "records",
    )
    if not distributed.is_leader():
        return
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
    """Copies the records worth learning into the final cache; returns counts by reason.

    Every process reads the whole draft and so comes to the same choice; each writes its shards.
    """
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
    missing = writer.missing_shards()
    distributed.wait_for_all("missing shards of the final cache are known")
    for shard in missing:
        if shard % jax.process_count() == jax.process_index():
            start, stop = writer.shard_range(shard)
            writer.write_shard(shard, [draft[index] for index in kept[start:stop]])
    distributed.wait_for_all("shards of the final cache are written")
    if distributed.is_leader():
        writer.finish()
    return dict(reasons)
