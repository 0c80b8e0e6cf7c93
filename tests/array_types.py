"""Checks the shapes and dtypes that annotations promise, while the tests run."""

import inspect
import typing
from collections.abc import Callable
from typing import Any

import beartype
import jaxtyping


def install(package: str) -> None:
    """Decorates what a package defines, whenever it is imported from now on.

    Jaxtyping's hook would wrap every function, also those without an array, and generate code for
    each closure as often as it is defined: tests that only handle text took many times as long.
    """
    decorate = jaxtyping.jaxtyped

    def decorate_those_of_arrays(*, typechecker: Any) -> Callable[[Any], Any]:
        of_arrays = decorate(typechecker=typechecker)
        return lambda defined: of_arrays(defined) if _takes_arrays(defined) else defined

    jaxtyping.jaxtyped = decorate_those_of_arrays  # type: ignore[assignment]
    jaxtyping.install_import_hook(package, f"{__name__}.check")


def check(function: Callable) -> Callable:
    """Beartype for the annotations that name an array: a type checker for jaxtyping.

    Other types are pyright's: tests may stand in for a protocol, or pass what is refused.
    """
    hints = function.__annotations__.items()
    function.__annotations__ = {name: hint for name, hint in hints if _names_an_array(hint)}
    return beartype.beartype(function)


def _takes_arrays(defined: Any) -> bool:
    """Fields of dataclasses stay unchecked, as JAX rebuilds pytrees with leaves of every kind."""
    if inspect.isclass(defined) or defined.__name__ == "__init__":
        return False
    return any(map(_names_an_array, defined.__annotations__.values()))


def _names_an_array(hint: Any) -> bool:
    is_array = isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)
    return is_array or any(map(_names_an_array, typing.get_args(hint)))
