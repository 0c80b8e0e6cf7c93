"""The teacher of a config, loaded or served, and what its cache is made from."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import jax

from sentidistill_jax import sharding
from sentidistill_jax.artifact import file_fingerprint, fingerprint
from sentidistill_jax.data.teacher_cache import MODES, CacheManifest
from sentidistill_jax.distributed import Arguments, by_leader
from sentidistill_jax.inference.engine import Engine
from sentidistill_jax.inference.label_scoring import score_labels
from sentidistill_jax.models.load import LoadedModel, load_model, tokenizer_fingerprint
from sentidistill_jax.settings import Config, float_dtype
from sentidistill_jax.stages.endpoint import EndpointTeacher, served
from sentidistill_jax.teacher.annotate import LabelTeacher
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
        num_prompts=num_records,
        records_per_shard=cache.records_per_shard,
        config={
            "teacher": config.teacher.to_dict(),
            "generation": config.generation.to_dict(),
            "seed": config.seed,
        },
    )
