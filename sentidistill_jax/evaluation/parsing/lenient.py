"""A forgiving reader, off by default: what a person would take the answer to say (Q7)."""

from collections.abc import Iterator

from sentidistill_jax.evaluation.parsing.answer import ParseStatus
from sentidistill_jax.evaluation.parsing.literal import close, read_literal


def read_lenient(answer: str) -> tuple[list[tuple[str, ...]], ParseStatus]:
    """Reads all tuples of texts in an answer.

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
