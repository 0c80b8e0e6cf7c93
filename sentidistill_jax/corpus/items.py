"""Lists of tuples as answers, such as (aspect, sentiment) pairs: written and read in each format.

`tuples` and `dict` are Python literals, `json` is a list of objects, and `plain` separates items by
semicolons and fields by bars. A dict maps the first of two fields to the second.
"""

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass

Items = tuple[tuple[str, ...], ...]

_NOTHING = "none"  # what `plain` says of an empty list


@dataclass(frozen=True)
class Field:
    """One element of the tuples."""

    name: str
    options: tuple[str, ...] = ()  # the values that it may have; (): any
    quoted: bool = False  # its values are words of the text


def render_items(items: Items, fields: Sequence[Field], format: str) -> str:
    """The items as an answer, without a space before it."""
    if format == "json":
        names = [field.name for field in fields]
        return json.dumps([dict(zip(names, item, strict=True)) for item in items])
    if format == "tuples":
        return str(list(items))
    if format == "dict":
        return str({first: second for first, second in items})
    return "; ".join(map(" | ".join, items)) or _NOTHING


def describe_items(fields: Sequence[Field], format: str) -> str:
    """The line of an instruction that shows the format."""
    names = tuple(field.name for field in fields)
    if format == "json":
        return f"Answer as JSON: [{json.dumps(dict.fromkeys(names, '...'))}, ...]"
    if format == "tuples":
        return f"Answer as a list of tuples: [{names}, ...]"
    if format == "dict":
        return f"Answer as a dict: {{{names[0]!r}: {names[1]!r}, ...}}"
    return f"Answer as: {' | '.join(names)}; {' | '.join(names)}; ... or {_NOTHING}"


def parse_items(answer: str, fields: Sequence[Field], format: str) -> Items | None:
    """The items of an answer, or None where it is not in the format or a value is no option."""
    try:
        items = _parsed(answer.strip(), fields, format)
    except (ValueError, SyntaxError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    right = all(
        len(item) == len(fields)
        and all(isinstance(value, str) and value for value in item)
        and all(
            value in field.options
            for value, field in zip(item, fields, strict=True)
            if field.options
        )
        for item in items
    )
    return items if right else None


def _parsed(answer: str, fields: Sequence[Field], format: str) -> Items:
    if format == "json":
        found = json.loads(answer)
        return tuple(tuple(item[field.name] for field in fields) for item in found)
    if format == "tuples":
        found = ast.literal_eval(answer)
        if not isinstance(found, list) or not all(isinstance(item, tuple) for item in found):
            raise ValueError("not a list of tuples")
        return tuple(found)
    if format == "dict":
        return tuple(ast.literal_eval(answer).items())
    if answer == _NOTHING:
        return ()
    return tuple(tuple(part.strip() for part in item.split("|")) for item in answer.split(";"))
