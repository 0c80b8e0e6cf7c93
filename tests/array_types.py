"""Checks the shapes and dtypes that annotations promise, while the tests run."""

import typing
from collections.abc import Callable
from typing import Any

import beartype
import jaxtyping


def _names_an_array(hint: Any) -> bool:
    is_array = isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)
    return is_array or any(map(_names_an_array, typing.get_args(hint)))


def check(function: Callable) -> Callable:
    """Beartype for the annotations that name an array: a type checker for jaxtyping's import hook.

    Other types are pyright's: tests may stand in for a protocol, or pass what is refused. The
    fields of dataclasses stay unchecked, as JAX rebuilds pytrees with leaves of every kind.
    """
    if function.__name__ == "__init__":
        return function
    hints = {name: hint for name, hint in function.__annotations__.items() if _names_an_array(hint)}
    if not hints:
        return function
    function.__annotations__ = hints
    return beartype.beartype(function)
