"""What stage entry functions call their config, and what several of them read from it."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

# A locked ml_collections.ConfigDict with the fields of configs/base.py. Its attributes are made at
# run time, so a type checker can say nothing about them.
Config = Any


def float_dtype(field: str, name: str) -> Any:
    """The dtype that a field names.

    Raises:
      ValueError: If it is neither float32 nor bfloat16.
    """
    if name not in ("float32", "bfloat16"):
        raise ValueError(f"{field}={name!r} must be 'float32' or 'bfloat16'.")
    return jnp.dtype(name)


def sentibench_dir(texts: Config) -> pathlib.Path | None:
    """The SentiBench folder that the section `texts` or the environment names, or None.

    Raises:
      FileNotFoundError: If it is named but not there.
    """
    named = texts.sentibench_dir or os.environ.get("SENTIBENCH_DIR", "")
    if not named:
        return None
    if not pathlib.Path(named).is_dir():
        raise FileNotFoundError(
            f"SentiBench folder {named!r} not found; set SENTIBENCH_DIR or"
            " --config.texts.sentibench_dir to it, or to nothing."
        )
    return pathlib.Path(named)


def corpus_name(config: Config) -> str:
    """What the folders of a config's prompts and cache are called."""
    return config.corpus or config.stage


def student_caches(config: Config) -> tuple[str, ...]:
    """Corpora whose caches decide what a student keeps of its source, if caches do."""
    return tuple(config.student.caches or config.data.caches.to_dict() or (corpus_name(config),))


def take_whole(student: Config, source: str) -> None:
    """Makes a section `student` mean a model as it stands: nothing of it is cut."""
    student.update(
        source=source,
        layers=(),
        num_layers=0,
        vocabulary="full",
        vocabulary_size=0,
        caches=(),
        refit_sequences=0,
    )
    student.slice.update(dict.fromkeys(student.slice, 0))


def with_changes(config: Config, changes: Mapping[str, Any]) -> Config:
    """A locked copy of a config with other values of some fields.

    Args:
      config: See configs/base.py.
      changes: Dotted name of a field -> value. A mapping replaces a section whose keys are data.

    Raises:
      ValueError: If there is no such field, its values are of another type, or it is a section.
    """
    config = config.copy_and_resolve_references().lock()
    for name, value in changes.items():
        *sections, field = name.split(".")
        holder = config
        for section in sections:
            known = isinstance(holder, type(config)) and section in holder
            holder = holder[section] if known else {}
        if not isinstance(holder, type(config)) or field not in holder:
            raise ValueError(f"the config has no field {name!r}; configs/base.py has them all.")
        if isinstance(value, Mapping):
            if len(holder[field]) and holder[field].convert_dict:
                raise ValueError(f"{name} is a section of fields; change them one by one.")
            value = type(config)(dict(value), convert_dict=False)
        try:
            holder[field] = value
        except TypeError as error:
            wanted = type(holder[field]).__name__
            raise ValueError(f"{name}={value!r} must be of type {wanted}.") from error
    return config
