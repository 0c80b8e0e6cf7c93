"""OpeNER answers: (holder, target, expression, polarity) quads, located in the sentence."""

import dataclasses
import re

from sentidistill_jax.evaluation.gold import NULL
from sentidistill_jax.evaluation.options import OFFICIAL, ScoringOptions
from sentidistill_jax.evaluation.parsing.answer import (
    ParsedAnswer,
    ParseStatus,
    distinct_tuples,
    read_tuples,
)
from sentidistill_jax.evaluation.parsing.lenient import read_lenient
from sentidistill_jax.evaluation.parsing.literal import clean
from sentidistill_jax.evaluation.sentiment_graph import Opinion, Span

ARITY = 4
POLARITIES = ("positive", "neutral", "negative")


@dataclasses.dataclass(frozen=True)
class OpenerAnswer(ParsedAnswer):
    """`items` are the stripped quads of legal polarity; `opinions` are what is scored."""

    raw_tuples: tuple[tuple[object, ...], ...] = ()  # before any filter
    opinions: tuple[Opinion, ...] = ()


def parse_opener(answer: str, sentence: str, options: ScoringOptions = OFFICIAL) -> OpenerAnswer:
    """Parses an OpeNER answer.

    Args:
      answer: The extracted answer.
      sentence: The test sentence, in which the texts are located.
      options: Deviations from the reference.

    Returns:
      The quads and the opinions. By default the opinions come from all tuples, not from the
      filtered quads, and a tuple of wrong length leaves none; `strict_opener` uses the quads.
    """
    if options.lenient_parsing:
        found, status = read_lenient(answer)
        tuples = distinct_tuples(found)
    else:
        tuples, status = read_tuples(clean(answer))
    raw = [fields for fields in tuples if len(fields) != ARITY or _survives(fields)]
    quads = [_strip(fields) for fields in raw if len(fields) == ARITY]
    quads = [quad for quad in quads if quad[3] in POLARITIES]
    if options.strict_opener:
        opinions = [_locate_strictly(quad, sentence) for quad in quads]
    elif any(len(fields) != ARITY for fields in tuples):
        opinions, status = [], ParseStatus.VOID
    else:
        opinions = [_locate(fields, sentence) for fields in raw]
    return OpenerAnswer(
        items=tuple(quads),
        status=status,
        num_dropped=len(tuples) - len(raw),
        raw_tuples=tuple(raw),
        opinions=tuple(opinions),
    )


def _survives(fields: tuple[object, ...]) -> bool:
    """Whether the reference can process the quad: it strips all fields but the holder (Q3)."""
    return all(isinstance(field, str | bytes) for field in fields[1:])


def _strip(fields) -> tuple[object, ...]:
    holder, *others = fields
    holder = holder if isinstance(holder, str) else NULL
    return (holder.strip(), *(field.strip() for field in others))


def _locate(fields: tuple[object, ...], sentence: str) -> Opinion:
    *texts, polarity = fields
    holder, target, expression = (text if isinstance(text, str) else NULL for text in texts)
    return Opinion(
        holder=() if holder == NULL else _first_spans([holder], sentence),
        target=_first_spans(_split_on_and(target), sentence),
        expression=_first_spans(_split_on_and(expression), sentence),
        polarity=polarity.capitalize() if isinstance(polarity, str) else None,
    )


def _split_on_and(text: str) -> list[str]:
    return [part.strip() for part in text.split("AND")]  # also inside BRAND, as the reference


def _first_spans(parts: list[str], sentence: str) -> tuple[Span, ...]:
    begins = [(sentence.find(part), part) for part in parts]
    return tuple((begin, begin + len(part)) for begin, part in begins if begin >= 0)


def _locate_strictly(quad: tuple[object, ...], sentence: str) -> Opinion:
    holder, target, expression, polarity = (str(field) for field in quad)
    return Opinion(
        holder=_strict_spans(holder, sentence),
        target=_strict_spans(target, sentence),
        expression=_strict_spans(expression, sentence),
        polarity=polarity.capitalize(),
    )


def _strict_spans(text: str, sentence: str) -> tuple[Span, ...]:
    """Locates each part of ` AND `-joined text, at whole tokens if it occurs there."""
    spans = []
    for part in text.split(" AND "):
        if not part or part == NULL:
            continue
        whole = re.search(rf"(?<!\S){re.escape(part)}(?!\S)", sentence)
        begin = whole.start() if whole else sentence.find(part)
        if begin >= 0:
            spans.append((begin, begin + len(part)))
    return tuple(spans)
