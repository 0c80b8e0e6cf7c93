"""A teacher behind an OpenAI-compatible server, as `config.teacher.endpoint` names it."""

import dataclasses
import pathlib
from typing import Any

from sentidistill_jax.artifact import Artifact, file_fingerprint, fingerprint
from sentidistill_jax.corpus.records import Prompt, read_records
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.data.teacher_cache import TEXT_MODE, CacheManifest
from sentidistill_jax.distributed import by_leader
from sentidistill_jax.endpoint.client import Endpoint
from sentidistill_jax.endpoint.journal import Journal
from sentidistill_jax.endpoint.model import EndpointModel
from sentidistill_jax.endpoint.settings import EndpointSettings
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.models.load import load_config, load_tokenizer, tokenizer_fingerprint
from sentidistill_jax.settings import Config
from sentidistill_jax.stages.vocabularies import refuse_trimmed
from sentidistill_jax.teacher.annotate import Annotation, LabelTeacher
from sentidistill_jax.teacher.server_capture import ServerCapture
from sentidistill_jax.training.objectives import Objective
from sentidistill_jax.workdir import Workdir


def served(config: Config) -> bool:
    """Whether the teacher is a server's model rather than one to load."""
    return bool(config.teacher.endpoint.base_url)


def endpoint_settings(config: Config) -> EndpointSettings:
    """The server of the config.

    Raises:
      ValueError: If a field is out of range.
    """
    return EndpointSettings(**config.teacher.endpoint.to_dict())


def teacher_settings(config: Config) -> dict[str, Any]:
    """What decides the teacher's answers, for manifests: a server may move to another address."""
    if served(config):
        return {"endpoint": endpoint_settings(config).identity()}
    return {name: value for name, value in config.teacher.to_dict().items() if name != "endpoint"}


def cache_inputs(config: Config, prompts_path: pathlib.Path) -> dict[str, Any]:
    """What decides a teacher cache, but for the tokens it is kept in.

    Raises:
      FileNotFoundError: If there are no prompts.
    """
    return {
        "corpus": file_fingerprint(prompts_path),
        "teacher": teacher_settings(config),
        "generation": config.generation.to_dict(),
        "cache": config.cache.to_dict(),
        "seed": config.seed,
    }


@dataclasses.dataclass(frozen=True)
class EndpointTeacher:
    """A served teacher ready to label texts."""

    model: EndpointModel

    @classmethod
    def load(cls, config: Config, journal: pathlib.Path) -> "EndpointTeacher":
        """The teacher of `config.teacher.endpoint`; its answers are kept in a file."""
        return cls(EndpointModel(endpoint_settings(config), Journal(journal)))

    def labeller(self, task: str, settings: Config) -> LabelTeacher:
        """The teacher as a labeller of one task, with `config.annotate`'s demonstrations."""
        return LabelTeacher(self.model.label_logprobs, task, settings.k_shot, settings.draws)


@by_leader
def teach_from_endpoint(config: Config, workdir: Workdir) -> None:
    """Writes the teacher cache of `config.stage` from a server's answers.

    Answers go to `journal.jsonl` as they come; run again, only what is missing
    is asked for, and the shards are written from the journal.

    Raises:
      EndpointError: If the server fails for good, or the key is not in the environment.
      ValueError: If the cache's settings cannot be served.
    """
    directory = workdir.cache(config.stage)
    prompts_path = workdir.prompts(config.stage) / "prompts.jsonl"
    settings = endpoint_settings(config)
    sampling = SamplingConfig(**config.generation.to_dict())
    if sampling.min_p:
        raise ValueError(
            f"generation.min_p={sampling.min_p} is no field of OpenAI's protocol; where the server"
            " knows it, set it in teacher.endpoint.extra_body and generation.min_p=0."
        )
    if config.cache.mode != "top_k" or tuple(config.cache.temperatures) != (1.0,):
        raise ValueError(
            f"cache.mode={config.cache.mode!r} with cache.temperatures="
            f"{tuple(config.cache.temperatures)} cannot be captured from a server, which lists the"
            " likeliest tokens at temperature 1; use 'top_k' and (1.0,)."
        )
    student = workdir.model_source(config.student.source)
    refuse_trimmed(config, workdir)
    tokenizer = load_tokenizer(student)
    artifact = Artifact(
        directory,
        {
            **cache_inputs(config, prompts_path),
            "tokenizer": tokenizer_fingerprint(tokenizer),
        },
    )
    if artifact.finished:
        return
    prompts = read_records(prompts_path, Prompt)
    annotations = read_records(workdir.annotations / "annotations.jsonl", Annotation)
    texts = read_records(workdir.texts / "train.jsonl", UnlabelledText)
    with Journal(directory / "journal.jsonl") as journal:
        endpoint = Endpoint(settings, journal)
        artifact.begin()
        top_k = max(1, min(config.cache.top_k, settings.top_logprobs))
        capture = ServerCapture(
            endpoint,
            tokenizer,
            sampling=sampling,
            annotations={(a.task, a.text_id): a for a in annotations},
            top_k=top_k,
            seed=config.seed,
        )
        offer = capture.offer
        print(f"teach {config.stage}: {endpoint.model} gives {_what(offer.token_targets)}"
              f" ({offer.reason})")  # fmt: skip
        objective = Objective(**config.objective.to_dict())
        if not offer.token_targets and objective.needs_distributions:
            print(f"  training needs --config.objective.alpha=0, it is {objective.alpha}")
        kept, counts = capture.ask(prompts, {text.id: text.text for text in texts})
        if not kept:
            raise ValueError(
                f"none of the teacher's {len(prompts)} answers is worth learning ({counts}); raise"
                " generation.max_new_tokens or use a stronger teacher."
            )
        manifest = CacheManifest(
            teacher_fingerprint=capture.fingerprint,
            tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
            chat_template_fingerprint=fingerprint(tokenizer.chat_template),
            corpus_fingerprint=file_fingerprint(prompts_path),
            vocab_size=load_config(student).vocab_size,
            top_k=top_k,
            mode=config.cache.mode if offer.token_targets else TEXT_MODE,
            temperatures=tuple(config.cache.temperatures),
            codec=config.cache.codec,
            num_prompts=len(kept),
            records_per_shard=config.cache.records_per_shard,
            config={
                "teacher": {
                    **teacher_settings(config),
                    "models": sorted(journal.models),
                    "offer": dataclasses.asdict(offer),
                },
                "generation": config.generation.to_dict(),
                "seed": config.seed,
            },
        )
        capture.write(kept, directory / "records", manifest)
    artifact.finish(counts)
    rejected = {reason: count for reason, count in counts.items() if reason != "kept"}
    print(f"teach {config.stage}: {counts['kept']} answers kept, not kept: {rejected}")


def _what(token_targets: bool) -> str:
    return "text and token targets" if token_targets else "text alone"
