"""Values that fields of a config may have; the command line looks before anything runs.

What a value must be for a model, a mesh or a cache is checked where that is known. Names of tables
that others may add to (stages, objectives, tasks, data sets) are checked there as well.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

_MOST = 2**31 - 1  # of whole numbers: they become int32 on devices


class Rule(NamedTuple):
    """What a field may hold."""

    holds: Callable[[Any], bool]
    expected: str  # in words, behind "must be"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return _is_whole(value) or isinstance(value, float) and math.isfinite(value)


def _whole(least: int, most: int = _MOST) -> Rule:
    words = f"a whole number of at least {least}, and at most {most}"
    return Rule(lambda value: _is_whole(value) and least <= value <= most, words)


_ABOVE_0 = Rule(lambda value: _is_finite(value) and value > 0, "a finite number above 0")
_FROM_0 = Rule(lambda value: _is_finite(value) and value >= 0, "a finite number of at least 0")
_SHARE = Rule(lambda value: _is_finite(value) and 0 <= value <= 1, "a number between 0 and 1")
_PART = Rule(lambda value: _is_finite(value) and 0 <= value < 1, "a number of at least 0, below 1")
_MASS = Rule(lambda value: _is_finite(value) and 0 < value <= 1, "a number above 0, at most 1")
_FINITE = Rule(_is_finite, "a finite number")
_NAME = Rule(lambda value: isinstance(value, str) and value.isprintable() and value != "", "a name")
_AXIS = Rule(
    lambda value: _is_whole(value) and (value == -1 or 1 <= value <= 2**20),
    f"a number of devices from 1 to {2**20}, or -1 for what is left",
)


def _is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and re.compile(value) is not None
    except re.error:
        return False


def _one_of(*names: str) -> Rule:
    shown = [repr(name) for name in names]
    words = " or ".join(shown) if len(shown) == 2 else f"one of {', '.join(shown)}"
    return Rule(lambda value: isinstance(value, str) and value in names, words)


def _each(rule: Rule, *, least: int = 0) -> Rule:
    def holds(value: Any) -> bool:
        return (
            isinstance(value, tuple | list) and len(value) >= least and all(map(rule.holds, value))
        )

    return Rule(holds, f"a tuple of {least} or more, each {rule.expected}")


def _of_names(rule: Rule) -> Rule:
    def holds(value: Any) -> bool:
        return isinstance(value, Mapping) and all(map(rule.holds, value.values()))

    return Rule(holds, f"a section of names, each with {rule.expected}")


def _points(rule: Rule) -> Rule:
    def holds(point: Any) -> bool:
        is_pair = isinstance(point, tuple | list) and len(point) == 2
        return is_pair and _MASS.holds(point[0]) and rule.holds(point[1])

    return _each(Rule(holds, f"a pair of a fraction of the run and {rule.expected}"))


_DTYPE = _one_of("float32", "bfloat16")
RULES: Mapping[str, Rule] = {
    "name": _NAME,
    "seed": _whole(0),
    "log_interval": _whole(1),
    "peak_tflops": _FROM_0,
    "profile_steps": _each(_whole(0)),
    "texts.held_out_fraction": _SHARE,
    "texts.max_words": _whole(0),
    "texts.long_texts": _one_of("drop", "truncate"),
    "texts.max_per_source": _of_names(_whole(0)),
    "teacher.source": _NAME,
    "teacher.dtype": _DTYPE,
    "teacher.tokens_per_batch": _whole(0),
    "teacher.max_num_seqs": _whole(0),
    "teacher.endpoint.top_logprobs": _whole(0),
    "teacher.endpoint.concurrency": _whole(1),
    "teacher.endpoint.timeout": _ABOVE_0,
    "teacher.endpoint.retries": _whole(0),
    "annotate.tasks": _of_names(_whole(0)),
    "annotate.k_shot": _whole(0),
    "annotate.draws": _whole(1),
    "annotate.priors": _of_names(_each(_ABOVE_0)),
    "difficulty.share": _MASS,
    "knowdist.max_texts": _whole(0),
    "knowdist.per_text": _whole(1),
    "knowdist.perspectives": _of_names(_FROM_0),
    "knowdist.style": _one_of("few_shot", "chat"),
    "knowdist.tolerate": _each(
        _one_of(
            "loop", "cut_off", "refusal", "copy", "misquote", "demonstration", "wrong_sentiment"
        )
    ),  # fmt: skip
    "icldist.num_prompts": _whole(1),
    "icldist.tasks": _of_names(_FROM_0),
    "icldist.leave_out": _each(_NAME),
    "icldist.bare_fraction": _SHARE,
    "icldist.teacher_shots": _each(_whole(0), least=1),
    "icldist.student_shots": _each(_whole(0), least=1),
    "icldist.minimal_fraction": _SHARE,
    "icldist.draws": _whole(1),
    "icldist.max_words": _whole(0),
    "generation.temperature": _FROM_0,
    "generation.top_p": _MASS,
    "generation.min_p": _SHARE,
    "generation.max_new_tokens": _whole(1),
    "cache.mode": _one_of("top_k", "top_p", "sampled"),
    "cache.codec": _one_of("fast", "small"),
    "cache.top_k": _whole(1),
    "cache.top_p": _MASS,
    "cache.num_draws": _whole(1),
    "cache.temperatures": _each(_ABOVE_0, least=1),
    "cache.records_per_shard": _whole(1),
    "student.source": _NAME,
    "student.layers": _each(_whole(0)),
    "student.num_layers": _whole(0),
    "student.layer_choice": _one_of("first", "even", "importance"),
    "student.slice": _of_names(_whole(0)),
    "student.vocabulary": _one_of("full", "corpus"),
    "student.vocabulary_size": _whole(0),
    "student.caches": _each(_NAME),
    "student.measured_sequences": _whole(1),
    "student.refit_sequences": _whole(0),
    "student.dtype": _DTYPE,
    "student.param_dtype": _DTYPE,
    "lora.rank": _whole(0),
    "lora.scale": _FINITE,
    "lora.targets": _each(_NAME),
    "objective.alpha": _SHARE,
    "objective.alpha_schedule": _points(_SHARE),
    "objective.temperature": _ABOVE_0,
    "objective.temperature_schedule": _points(_ABOVE_0),
    "objective.label_weight": _FROM_0,
    "optimizer.learning_rate": _FROM_0,
    "optimizer.schedule": _one_of("linear", "cosine", "wsd", "constant"),
    "optimizer.warmup_fraction": _PART,
    "optimizer.decay_fraction": _SHARE,
    "optimizer.final_fraction": _SHARE,
    "optimizer.weight_decay": _FROM_0,
    "optimizer.clip_norm": _ABOVE_0,
    "optimizer.momentum_dtype": _DTYPE,
    "optimizer.ema_decay": _PART,
    "optimizer.frozen": _each(Rule(_is_pattern, "a regular expression")),
    "data.global_batch_size": _whole(1),
    "data.micro_batches": _whole(1),
    "data.seq_length": _whole(2),
    "data.scored_length": _whole(1),
    "data.epochs": _whole(0),
    "data.caches": _of_names(_FROM_0),
    "data.kind_weights": _of_names(_FROM_0),
    "checkpoint.interval": _whole(1),
    "checkpoint.keep": _whole(1),
    "checkpoint.keep_every": _whole(0),
    "evaluation.max_examples": _of_names(_whole(0)),
    "evaluation.calibration_texts": _whole(0),
    "evaluation.tokens_per_batch": _whole(0),
    "evaluation.max_num_seqs": _whole(0),
    "evaluation.sentibench_examples": _whole(-1),
    "evaluation.sentibench.datasets": _each(_NAME),
    "evaluation.sentibench.k_shot": _whole(0),
    "evaluation.sentibench.seeds": _each(_whole(0), least=1),
    "evaluation.sentibench.max_prompt_length": _whole(0),
    "evaluation.sentibench.too_long": _one_of("refuse", "drop_demonstrations", "left_truncate"),
    "evaluation.sentibench.clean_up_spaces": _one_of("checkpoint", "yes", "no"),
    "evaluation.sentibench.max_new_tokens": _whole(1),
    "evaluation.sentibench.repetition_penalty": _FROM_0,
    "evaluation.in_training.interval": _whole(0),
    "evaluation.in_training.datasets": _each(_NAME),
    "evaluation.in_training.examples": _whole(0),
}


def check_values(config: Mapping[str, Any]) -> None:
    """Refuses a value that means nothing.

    Args:
      config: As plain values; one that holds whole configs is looked at config by config.

    Raises:
      ValueError: Names the first such field, its value and what it must be.
    """
    if "optimizer" not in config:
        for run in config.values():
            if isinstance(run, Mapping):
                check_values(run)
        return
    for name, value in _fields(config):
        section = name.partition(".")[0]
        rule = _AXIS if section == "mesh" else RULES.get(name)
        if rule is None and isinstance(value, float):
            rule = _FINITE
        if rule is not None and not rule.holds(value):
            raise ValueError(f"{name}={_short(value)} must be {rule.expected}.")


def _fields(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every field; sections with a rule of their own are one field."""
    for name, value in values.items():
        if isinstance(value, Mapping) and f"{prefix}{name}" not in RULES:
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _short(value: Any) -> str:
    text = "an enormous number" if _is_whole(value) and abs(value) > 10**30 else repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
