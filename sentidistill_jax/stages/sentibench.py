"""SentiBench as a config asks for it: protocol, model, provenance, development scores."""

import dataclasses
import functools
import pathlib
import platform
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import transformers

from sentidistill_jax.distributed import is_leader
from sentidistill_jax.endpoint.model import EndpointModel
from sentidistill_jax.evaluation import results, runner
from sentidistill_jax.evaluation.benchmarks import SENTIBENCH
from sentidistill_jax.evaluation.model import ServedModel
from sentidistill_jax.inference.engine import Engine
from sentidistill_jax.inference.generation_settings import generation_settings
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.language_model import LanguageModel
from sentidistill_jax.models.load import LoadedModel, tokenizer_fingerprint
from sentidistill_jax.settings import Config
from sentidistill_jax.stages.corpus import sentibench_dir

_CLEAN_UP = {"checkpoint": None, "yes": True, "no": False}


def asked(config: Config) -> bool:
    """Whether SentiBench is to be scored: its files are at hand and the config wants some of it."""
    return sentibench_dir(config) is not None and config.evaluation.sentibench_examples >= 0


def protocol(config: Config, max_position: int | None) -> runner.Protocol:
    """What the config asks of a model.

    Args:
      config: See configs/base.py.
      max_position: Tokens the model has room for; None if it does not tell.

    Raises:
      ValueError: Names the field that is out of range.
    """
    settings = config.evaluation.sentibench
    room = None if max_position is None else max_position - settings.max_new_tokens
    limit = settings.max_prompt_length or room or 2**30
    if room is not None and not 1 <= limit <= room:
        raise ValueError(
            f"evaluation.sentibench.max_prompt_length={limit} must be 1 to {room}: the model reads"
            f" {max_position} tokens, {settings.max_new_tokens} of them new ones."
        )
    return runner.Protocol(
        SENTIBENCH,
        datasets=tuple(settings.datasets),
        examples=config.evaluation.sentibench_examples,
        k_shot=settings.k_shot,
        seeds=tuple(settings.seeds),
        max_prompt_length=limit,
        too_long=settings.too_long,
        max_new_tokens=settings.max_new_tokens,
        contextual_calibration=settings.contextual_calibration,
        batch_calibration=settings.batch_calibration,
    )


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model that can be asked SentiBench, and what scores.json says of it."""

    origin: dict[str, Any]  # where it comes from
    room: int | None  # tokens that it reads, new ones included; None if it does not tell
    model_for: Callable[[runner.Protocol], LanguageModel]  # the model as it answers a protocol


def local_subject(config: Config, engine: Engine, model: LoadedModel) -> Subject:
    """A loaded model."""
    origin = {
        "source": model.source,
        "weights": model.fingerprint,
        "tokenizer": tokenizer_fingerprint(model.tokenizer),
        "dtype": str(model.decoder.dtype),
    }
    model_for = functools.partial(local_model, config, engine, model)
    return Subject(origin, engine.config.max_position, model_for)


def served_subject(model: EndpointModel) -> Subject:
    """A server's model, which applies a repetition penalty or a chat template of its own."""
    origin = {"endpoint": model.settings.identity() | {"model": model.name}}
    return Subject(origin, None, lambda asking: ServedModel(model))


def local_model(
    config: Config, engine: Engine, model: LoadedModel, asking: runner.Protocol
) -> LocalModel:
    """The model as it answers the prompts of a protocol.

    Raises:
      ValueError: If a setting is out of range, or the tokenizer has no chat template to apply.
    """
    settings = config.evaluation.sentibench
    if settings.clean_up_spaces not in _CLEAN_UP:
        raise ValueError(
            f"evaluation.sentibench.clean_up_spaces={settings.clean_up_spaces!r} must be one of"
            f" {list(_CLEAN_UP)}."
        )
    if settings.chat_template and not model.tokenizer.chat_template:
        raise ValueError(
            "evaluation.sentibench.chat_template=True needs a tokenizer with a chat template;"
            f" that of {model.source!r} has none."
        )
    return LocalModel(
        engine,
        model.tokenizer,
        generation_settings(
            model.generation,
            model.tokenizer,
            repetition_penalty=settings.repetition_penalty or None,
            clean_up_spaces=_CLEAN_UP[settings.clean_up_spaces],
        ),
        rows=settings.rows,
        chat_template=settings.chat_template,
        left_truncate_to=(asking.max_prompt_length if asking.too_long == "left_truncate" else None),
    )


def evaluate_sentibench(
    config: Config,
    subject: Subject,
    parts: pathlib.Path,
    name: str,
    on_start: Callable[[], None],
) -> tuple[dict[str, dict[str, Any]], list[results.Line], dict[str, Any]]:
    """Entries of scores.json by data set, lines of predictions.jsonl, and how answers were made."""
    asking = protocol(config, subject.room)
    model = subject.model_for(asking)
    entries, lines = runner.run(
        model,
        asking,
        functools.partial(SENTIBENCH.load, data_dir=sentibench_dir(config)),
        parts,
        name=f"evaluate {name}",
        write=is_leader(),
        on_start=on_start,
    )
    generation = {"max_new_tokens": asking.max_new_tokens}
    if isinstance(model, LocalModel):
        settings = dataclasses.asdict(model.generation)
        generation |= {name: value for name, value in settings.items() if name != "stop_ids"}
    return entries, lines, generation


def provenance(config: Config, origin: Mapping[str, Any]) -> dict[str, Any]:
    """What was scored, and with what; `origin` is empty for an ensemble of answers."""
    return {
        "backend": jax.default_backend(),
        "versions": {
            "jax": jax.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "transformers": transformers.__version__,
        },
        "settings": config.evaluation.to_dict(),
        **origin,
    }


def development_scores(config: Config, engine: Engine, model: LoadedModel) -> dict[str, float]:
    """F1 on items of the training splits, for a look at a student that is still learning.

    Returns:
      `eval/DATASET/f1` of every data set of `config.evaluation.in_training`, and the mean of them.
    """
    settings = config.evaluation.in_training
    asking = development_protocol(config, engine.config.max_position)
    entries, _ = runner.run(
        local_model(config, engine, model, asking),
        asking,
        lambda name: SENTIBENCH.load(name, sentibench_dir(config)).development_set(
            settings.examples
        ),
        None,
    )
    scores = {f"eval/{name}/f1": entry["f1"] for name, entry in entries.items()}
    return scores | {"eval/mean_f1": float(np.mean(list(scores.values())))}


def development_protocol(config: Config, max_position: int | None) -> runner.Protocol:
    """What is asked during training.

    Raises:
      ValueError: Names the field that is out of range, or says that there are no data.
    """
    settings = config.evaluation.in_training
    if sentibench_dir(config) is None:
        raise ValueError(
            f"evaluation.in_training.interval={settings.interval} needs SentiBench's files; set"
            " SENTIBENCH_DIR or texts.sentibench_dir, or set the interval to 0."
        )
    if not settings.datasets or not 1 <= settings.examples <= 396:
        raise ValueError(
            f"evaluation.in_training has datasets={tuple(settings.datasets)} and"
            f" examples={settings.examples}; expected some data sets, and 1 to 396 examples."
        )
    asking = config.copy_and_resolve_references()
    with asking.unlocked():
        asking.evaluation.sentibench_examples = settings.examples
        asking.evaluation.sentibench.datasets = tuple(settings.datasets)
        asking.evaluation.sentibench.seeds = (42,)
    return protocol(asking, max_position)
