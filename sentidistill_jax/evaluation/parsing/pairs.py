"""The item checks that ATSA and ACSA share."""

import re
from collections.abc import Callable, Iterable
from typing import Any

# A pair written as text, e.g. 'sushi - positive'.
_SEPARATORS = re.compile(r"[,\-|]")

INVALID = False  # what the reference puts in place of an invalid pair; never equal to a gold tuple

# (term or category, polarity) -> is it a legal pair; str, though bytes literals get here too
Accept = Callable[[Any, Any], bool]


def wrap_single_pair(value: list | tuple) -> list | tuple:
    """Returns `[value]` if the value is one bare pair, e.g. `('food', 'positive')`."""
    return [value] if len(value) == 2 and isinstance(value[0], str) else value


def check_all(value: Iterable[object], accept: Accept) -> list[object]:
    """Strips and checks every item; falsy items are skipped.

    Args:
      value: Items, supposedly pairs.
      accept: Whether a stripped pair is legal.

    Returns:
      A stripped pair or INVALID for each item.

    Raises:
      AttributeError, TypeError, ValueError: At the first item that is not a pair of texts, or if
        the value is not iterable. The reference then keeps the value unchecked.
    """
    return [_check(item, accept) for item in value if item]


def check_each(value: Iterable[object], accept: Accept) -> list[object]:
    """Like `check_all`, but an item that is not a pair of texts is INVALID by itself (Q8)."""
    checked: list[object] = []
    for item in value:
        try:
            checked += check_all([item], accept)
        except (AttributeError, TypeError, ValueError):
            checked.append(INVALID)
    return checked


def _check(item, accept: Accept) -> object:
    first, polarity = item if isinstance(item, list | tuple) else _SEPARATORS.split(item)
    first, polarity = first.strip(), polarity.strip()
    return (first, polarity) if accept(first, polarity) else INVALID
