"""The fingerprint of perspectives and tasks, which changes with their words and their code."""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from sentidistill_jax.artifact import fingerprint


def definitions_fingerprint(known: Mapping[str, Any], used: Mapping[str, float]) -> str:
    """The hash of the definitions that prompts are made of.

    Args:
      known: Perspectives or tasks by name; dataclasses.
      used: Those in use, with their weights; {} uses all.
    """
    names = sorted(known if not used else used.keys() & known.keys())
    definitions = {name: asdict(known[name]) for name in names}
    return fingerprint(json.loads(json.dumps(definitions, default=_source)))


def _source(function: Callable[..., Any]) -> str:
    """The source of a function's whole module, since constants and helpers decide what it does."""
    return inspect.getsource(inspect.getmodule(function) or function)
