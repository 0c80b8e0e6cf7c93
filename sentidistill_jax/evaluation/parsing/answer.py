"""What a parser returns: the items that count as predictions, and how they came about."""

import dataclasses
import enum
from typing import Any

from sentidistill_jax.evaluation.parsing.literal import close, read_literal


class ParseStatus(enum.Enum):
    """How an answer was read; scores report how often each occurred."""

    OK = "ok"  # a literal of the right shape
    REPAIRED = "repaired"  # unclosed, read up to its last `)`
    CUT = "cut"  # repaired, and more than three tuples reduced to the first three (Q2)
    UNCHECKED = "unchecked"  # a malformed item switched off all checks of the sentence (Q8)
    VOID = "void"  # a tuple of wrong length took the others with it (opener, Q12)
    UNUSABLE = "unusable"  # a literal, but nothing that could hold predictions
    UNREADABLE = "unreadable"  # not a Python literal


@dataclasses.dataclass(frozen=True)
class ParsedAnswer:
    """One parsed answer of a fine-grained task."""

    items: tuple[object, ...]  # tuples of str; anything else is junk: a wrong prediction
    status: ParseStatus
    num_dropped: int = 0  # tuples (ATSA: answers) on which the reference aborts the run (Q3)


def distinct_tuples(value: Any) -> list[tuple[object, ...]]:
    """Returns the distinct items of a value as tuples, in text order.

    A dict gives its keys and a str its characters, as Python's `set` would.

    Raises:
      TypeError: If the value or an item is not iterable, or an item is not hashable.
    """
    return [tuple(item) for item in dict.fromkeys(value)]


def read_tuples(text: str) -> tuple[list[tuple[object, ...]], ParseStatus]:
    """Reads the distinct tuples of an answer, closing it first if that makes it a literal."""
    try:
        value = read_literal(text)
    except ValueError:
        return repair_tuples(text)
    try:
        return distinct_tuples(value), ParseStatus.OK
    except TypeError:
        return [], ParseStatus.UNUSABLE


def repair_tuples(text: str) -> tuple[list[tuple[object, ...]], ParseStatus]:
    """Closes an answer after its last `)` and reads the distinct tuples."""
    try:
        return distinct_tuples(read_literal(close(text))), ParseStatus.REPAIRED
    except (TypeError, ValueError):
        return [], ParseStatus.UNREADABLE


def cut_repaired(
    tuples: list[tuple[object, ...]], status: ParseStatus
) -> tuple[list[tuple[object, ...]], ParseStatus]:
    """Keeps the first three tuples of a repaired answer.

    The reference keeps three as well, but which ones depends on its process's hash seed (Q2).
    """
    if status is ParseStatus.REPAIRED and len(tuples) > 3:
        return tuples[:3], ParseStatus.CUT
    return tuples, status
