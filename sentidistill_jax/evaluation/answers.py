"""Text that a model wrote, read as tuples: what the parsers of all benchmarks share.

Nothing here trusts the text or raises on it.
"""

import ast
import dataclasses
import enum
import warnings
from collections.abc import Iterator
from typing import Any

# An answer has at most 150 tokens, so 64 Ki characters allow 436 per token, more than any
# vocabulary holds. The limit keeps the worst inputs found (deep, wide, colliding hashes) below
# 0.3 s and 60 MB, and the C stack of the parser safe.
MAX_LITERAL_CHARS = 65_536


@dataclasses.dataclass(frozen=True)
class ScoringOptions:
    """Repairs of the reference scorer's oddities, all off by default; see docs/fidelity.md.

    Scores with any of them on must not be compared with published numbers.
    """

    lenient_parsing: bool = False  # Q7: prose, several lines, JSON lists and unclosed answers
    per_item_checks: bool = False  # Q8: a bad item is one wrong prediction, and only that
    set_counting: bool = False  # Q9: repeated right answers count once
    strip_gold: bool = False  # Q11: blanks at the edges of gold values are ignored
    strict_opener: bool = False  # Q12: opinions are located and weighted as one would expect


OFFICIAL = ScoringOptions()


class ParseStatus(enum.Enum):
    """Outcome of reading an answer; scores report how often each occurred."""

    OK = "ok"  # a literal of the right shape
    REPAIRED = "repaired"  # unclosed, read up to its last `)`
    CUT = "cut"  # repaired, and more than three tuples reduced to the first three (Q2)
    UNCHECKED = "unchecked"  # a malformed item switched off all checks of the sentence (Q8)
    VOID = "void"  # a tuple of wrong length took the others with it (opener, Q12)
    UNUSABLE = "unusable"  # a literal, but nothing that could hold predictions
    UNREADABLE = "unreadable"  # not a Python literal


@dataclasses.dataclass(frozen=True)
class ParsedAnswer:
    """One parsed answer of a tuple task."""

    items: tuple[object, ...]  # tuples of str; anything else is junk: a wrong prediction
    status: ParseStatus
    num_dropped: int = 0  # tuples (ATSA: answers) on which the reference aborts the run (Q3)

    @property
    def shown_items(self) -> tuple[object, ...]:
        """The items that predictions.jsonl lists."""
        return self.items


def clean(answer: str, *, drop_label: bool = False) -> str:
    """Removes code fences and all lines but the last from an answer.

    Args:
      answer: The extracted answer.
      drop_label: Also deletes every `Label:`, as the reference does for ATSA and ACSA only.

    Returns:
      The text that is read as a literal.
    """
    text = answer.replace("```python", "").replace("```", "").strip()
    text = text.replace("\n]", "]").replace("[\n", "[").rsplit("\n", 1)[-1]
    if drop_label:
        text = text.replace("Label:", "")
    return text.strip()


def close(text: str) -> str:
    """Repairs an unclosed answer: everything up to the last `)`, or all of it, plus `]`."""
    end = text.rfind(")")
    return (text if end < 0 else text[: end + 1]) + "]"


def read_literal(text: str) -> object:
    """Evaluates a Python literal; nothing is executed.

    Args:
      text: Any text.

    Returns:
      A str, bytes, number, bool, None, Ellipsis, or a list, tuple, set or dict of these.

    Raises:
      ValueError: If the text is not a literal or longer than MAX_LITERAL_CHARS.
    """
    if len(text) > MAX_LITERAL_CHARS:
        raise ValueError(
            f"The answer has {len(text)} characters, expected at most {MAX_LITERAL_CHARS}."
        )
    try:
        with warnings.catch_warnings():
            # An invalid escape such as "\d" only warns; under -W error it would not parse.
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)
    except Exception as error:
        # Besides SyntaxError and ValueError: MemoryError and RecursionError on deep nesting,
        # TypeError on unhashable set items, SystemError from the parser's own depth check.
        raise ValueError(f"The answer is not a Python literal ({type(error).__name__}).") from error


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


def read_lenient(answer: str) -> tuple[list[tuple[str, ...]], ParseStatus]:
    """Reads all tuples of texts in an answer, as a person would take them (Q7).

    Code fences, prose around the list, line breaks, JSON lists, nesting and a missing end are
    accepted; whatever is not a list or tuple of texts is left out.

    Args:
      answer: The answer, possibly of several lines.

    Returns:
      The tuples in text order, and OK, REPAIRED or UNREADABLE.
    """
    text = answer.replace("```python", "").replace("```", "")
    text = text[max(text.find("["), 0) :].strip()
    upto_bracket = text[: text.rfind("]") + 1]
    for candidate, status in (
        (text, ParseStatus.OK),
        (upto_bracket, ParseStatus.OK),
        (close(text), ParseStatus.REPAIRED),
        (upto_bracket + "]", ParseStatus.REPAIRED),  # JSON lists, unclosed
    ):
        try:
            return list(_tuples_of_texts(read_literal(candidate))), status
        except ValueError:
            continue
    return [], ParseStatus.UNREADABLE


def _tuples_of_texts(value: object) -> Iterator[tuple[str, ...]]:
    if not isinstance(value, list | tuple):
        return
    texts = tuple(field for field in value if isinstance(field, str))
    if value and len(texts) == len(value):
        yield texts
    else:
        for item in value:
            yield from _tuples_of_texts(item)
