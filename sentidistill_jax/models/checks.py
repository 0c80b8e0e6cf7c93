"""Refusals that the readers of model files share."""

from collections.abc import Mapping
from typing import Any


def required(source: str, fields: Mapping[str, Any], name: str) -> Any:
    """A field that must be there.

    Raises:
      ValueError: If it is not.
    """
    if name not in fields:
        raise ValueError(f"{source} lacks the field {name!r}; is it the file of a decoder?")
    return fields[name]


def refuse_others(source: str, supported: Mapping[str, tuple[Any, Any]]) -> None:
    """Compares settings of a file with the only ones that the decoder computes.

    Args:
      source: What the file is called in the message.
      supported: Field -> (got, expected).

    Raises:
      ValueError: For the first field whose two differ.
    """
    for field, (got, expected) in supported.items():
        if got != expected:
            raise ValueError(
                f"{source} has {field}={got!r}, expected {expected!r}, which is all this decoder"
                " computes; choose another model."
            )
