"""SentiBench's tuple tasks: gold tuples of an item, and tuples out of an answer.

Gold tuples come in the order a demonstration shows them, with values as written in the data: not
lower-cased and not stripped, but for ACSA categories. Parsers follow the reference, oddities
included, unless `ScoringOptions` repair them (docs/fidelity.md), and never raise on an answer.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any

from sentidistill_jax.evaluation.answers import (
    OFFICIAL,
    ParsedAnswer,
    ParseStatus,
    ScoringOptions,
    clean,
    distinct_tuples,
    read_lenient,
    read_literal,
    read_tuples,
    repair_tuples,
)
from sentidistill_jax.evaluation.benchmarks.sentiment_graph import Opinion, Span
from sentidistill_jax.evaluation.task import Item

NULL = "NULL"
INVALID = False  # what the reference puts in place of an invalid pair; never equal to a gold tuple
QUAD = 4  # fields of an ASQP or OpeNER tuple
POLARITIES = ("positive", "neutral", "negative")


def atsa_gold(item: Item) -> list[tuple[str, ...]]:
    """(aspect term, polarity) of every explicit term, in the order of their offsets."""
    found = dict.fromkeys(
        (aspect["target"], aspect["polarity"], (aspect["from"], aspect["to"]))
        for aspect in item["aspects"]
        if aspect["target"] not in (NULL, None)
    )
    # Offsets are strings, so "100" sorts before "19" (Q4). Equal offsets keep the file order (Q1).
    ordered = sorted(found, key=lambda aspect: aspect[2])
    return [(term, polarity) for term, polarity, _ in ordered]


def acsa_gold(item: Item) -> list[tuple[str, ...]]:
    """Distinct (aspect category, polarity), implicit terms included; categories are lower-cased."""
    return _distinct(
        (aspect["category"].lower().replace("#", " "), aspect["polarity"])
        for aspect in item["aspects"]
    )


def asqp_gold(item: Item) -> list[tuple[str, ...]]:
    """Distinct (category, aspect, opinion, sentiment)."""
    return _distinct(
        (quad["category"], quad["aspect"], quad["opinion"], quad["sentiment"])
        for quad in item["quards"]
    )


def opener_gold(item: Item) -> list[tuple[str, ...]]:
    """Distinct (holder, target, expression, polarity); one of NULL alone where there are none."""
    quads = _distinct(
        (
            _join(opinion["Source"]),
            _join(opinion["Target"]),
            _join(opinion["Polar_expression"]),
            opinion["Polarity"].lower(),
        )
        for opinion in item["opinions"]
    )
    return quads or [(NULL, NULL, NULL, NULL)]


def _join(part: list[list[str]]) -> str:
    texts, _ = part
    return " AND ".join(texts) or NULL


def _distinct(tuples: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(tuples))


# A pair written as text, e.g. 'sushi - positive'.
_SEPARATORS = re.compile(r"[,\-|]")
# (term or category, polarity) -> is it a legal pair; str, though bytes literals get here too
_Accept = Callable[[Any, Any], bool]


def _wrap_single_pair(value: list | tuple) -> list | tuple:
    """Returns `[value]` if the value is one bare pair, e.g. `('food', 'positive')`."""
    return [value] if len(value) == 2 and isinstance(value[0], str) else value


def _check_all(value: Iterable[object], accept: _Accept) -> list[object]:
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


def _check_each(value: Iterable[object], accept: _Accept) -> list[object]:
    """Like `_check_all`, but an item that is not a pair of texts is INVALID by itself (Q8)."""
    checked: list[object] = []
    for item in value:
        try:
            checked += _check_all([item], accept)
        except (AttributeError, TypeError, ValueError):
            checked.append(INVALID)
    return checked


def _check(item, accept: _Accept) -> object:
    first, polarity = item if isinstance(item, list | tuple) else _SEPARATORS.split(item)
    first, polarity = first.strip(), polarity.strip()
    return (first, polarity) if accept(first, polarity) else INVALID


def _cut_repaired(
    tuples: list[tuple[object, ...]], status: ParseStatus
) -> tuple[list[tuple[object, ...]], ParseStatus]:
    """Keeps the first three tuples of a repaired answer.

    The reference keeps three as well, but which ones depends on its process's hash seed (Q2).
    """
    if status is ParseStatus.REPAIRED and len(tuples) > 3:
        return tuples[:3], ParseStatus.CUT
    return tuples, status


def parse_atsa(answer: str, sentence: str, options: ScoringOptions = OFFICIAL) -> ParsedAnswer:
    """Parses (aspect term, polarity) pairs; a term must occur in the sentence, case-sensitively.

    Returns:
      Pairs of str, and junk that counts as wrong predictions.
    """

    def accept(term: Any, polarity: Any) -> bool:
        return term in sentence and polarity in (*POLARITIES, "conflict")

    value, status = read_lenient(answer) if options.lenient_parsing else _read_pairs(answer)
    check = _check_each if options.per_item_checks else _check_all
    try:
        return ParsedAnswer(tuple(check(value, accept)), status)
    except (AttributeError, TypeError, ValueError):
        pass  # one malformed item: the reference keeps the value as it stands
    try:
        return ParsedAnswer(tuple(value), ParseStatus.UNCHECKED)
    except TypeError:  # `[[('food', 'positive')], 5]` leaves 5, which has no items to count
        return ParsedAnswer((), ParseStatus.UNUSABLE, num_dropped=1)


def _read_pairs(answer: str):
    """Returns whatever the answer holds in place of a list of pairs; no repair (Q7)."""
    try:
        value = read_literal(clean(answer, drop_label=True))
    except ValueError:
        return [], ParseStatus.UNREADABLE
    if not isinstance(value, list | tuple):
        return [], ParseStatus.UNUSABLE
    try:
        return _unnest(_wrap_single_pair(value)), ParseStatus.OK
    except (KeyError, TypeError):  # the first item is a number, None, a dict or a set
        return [], ParseStatus.UNUSABLE


def _unnest(value):
    """Returns the last of several lists of pairs, whatever it is, or the value itself."""
    nested = len(value) > 0 and len(value[0]) > 0 and isinstance(value[0][0], list | tuple)
    return value[-1] if nested else value


def parse_acsa(answer: str, sentence: str, options: ScoringOptions = OFFICIAL) -> ParsedAnswer:
    """Parses (aspect category, polarity) pairs; any category is accepted.

    Returns:
      Pairs of str, and junk that counts as wrong predictions.
    """
    del sentence
    if options.lenient_parsing:
        value, status = read_lenient(answer)
    else:
        value, status = _read_categories(clean(answer, drop_label=True))
        if status is not ParseStatus.OK and not options.per_item_checks:
            return ParsedAnswer(tuple(value), status)  # repaired pairs are not checked (Q8)
    check = _check_each if options.per_item_checks else _check_all
    try:
        return ParsedAnswer(tuple(check(value, _is_polar)), status)
    except (AttributeError, TypeError, ValueError):
        return ParsedAnswer(tuple(value), ParseStatus.UNCHECKED)


def _read_categories(text: str):
    try:
        value = read_literal(text)
    except ValueError:
        return _cut_repaired(*repair_tuples(text))
    if not isinstance(value, list | tuple):
        return [], ParseStatus.UNUSABLE
    return _wrap_single_pair(value), ParseStatus.OK


def _is_polar(category: Any, polarity: Any) -> bool:
    return polarity in POLARITIES


def parse_asqp(answer: str, sentence: str, options: ScoringOptions = OFFICIAL) -> ParsedAnswer:
    """Parses (category, aspect, opinion, sentiment) quads, checked for their length alone.

    Returns:
      Stripped quads. Tuples of another length vanish, or count as wrong with `per_item_checks`.
    """
    del sentence
    if options.lenient_parsing:
        found, status = read_lenient(answer)
        tuples = distinct_tuples(found)
    else:
        tuples, status = _cut_repaired(*read_tuples(clean(answer)))
    items: list[object] = []
    num_dropped = 0
    for fields in tuples:
        if len(fields) != QUAD:
            items += [INVALID] if options.per_item_checks else []
            continue
        texts = [field for field in fields if isinstance(field, str | bytes)]  # bytes are junk
        if len(texts) == QUAD:
            items.append(tuple(text.strip() for text in texts))
        else:
            num_dropped += 1
    return ParsedAnswer(tuple(items), status, num_dropped)


@dataclasses.dataclass(frozen=True)
class OpenerAnswer(ParsedAnswer):
    """`items` are the stripped quads of legal polarity; `opinions` are what is scored."""

    raw_tuples: tuple[tuple[object, ...], ...] = ()  # before any filter
    opinions: tuple[Opinion, ...] = ()

    @property
    def shown_items(self) -> tuple[object, ...]:
        """The tuples before any filter: the opinions come from them."""
        return self.raw_tuples


def parse_opener(answer: str, sentence: str, options: ScoringOptions = OFFICIAL) -> OpenerAnswer:
    """Parses (holder, target, expression, polarity) quads and locates them in the sentence.

    Returns:
      The quads and the opinions. By default the opinions come from all tuples, not from the
      filtered quads, and a tuple of wrong length leaves none; `strict_opener` uses the quads.
    """
    if options.lenient_parsing:
        found, status = read_lenient(answer)
        tuples = distinct_tuples(found)
    else:
        tuples, status = read_tuples(clean(answer))
    raw = [fields for fields in tuples if len(fields) != QUAD or _survives(fields)]
    quads = [_strip(fields) for fields in raw if len(fields) == QUAD]
    quads = [quad for quad in quads if quad[3] in POLARITIES]
    if options.strict_opener:
        opinions = [_locate_strictly(quad, sentence) for quad in quads]
    elif any(len(fields) != QUAD for fields in tuples):
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
    """Returns whether the reference can process the quad: it strips all fields but one (Q3)."""
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
