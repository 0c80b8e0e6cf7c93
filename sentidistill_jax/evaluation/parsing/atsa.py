"""ATSA answers: (aspect term, polarity) pairs, checked against the sentence."""

from typing import Any

from sentidistill_jax.evaluation.options import OFFICIAL, ScoringOptions
from sentidistill_jax.evaluation.parsing.answer import ParsedAnswer, ParseStatus
from sentidistill_jax.evaluation.parsing.lenient import read_lenient
from sentidistill_jax.evaluation.parsing.literal import clean, read_literal
from sentidistill_jax.evaluation.parsing.pairs import check_all, check_each, wrap_single_pair

POLARITIES = ("positive", "neutral", "negative", "conflict")


def parse_atsa(answer: str, sentence: str, options: ScoringOptions = OFFICIAL) -> ParsedAnswer:
    """Parses an ATSA answer.

    Args:
      answer: The extracted answer.
      sentence: The test sentence; a term must occur in it, case-sensitively.
      options: Deviations from the reference.

    Returns:
      Pairs of str, and junk that counts as wrong predictions.
    """

    def accept(term: Any, polarity: Any) -> bool:
        return term in sentence and polarity in POLARITIES

    value, status = read_lenient(answer) if options.lenient_parsing else _read(answer)
    check = check_each if options.per_item_checks else check_all
    try:
        return ParsedAnswer(tuple(check(value, accept)), status)
    except (AttributeError, TypeError, ValueError):
        pass  # one malformed item: the reference keeps the value as it stands
    try:
        return ParsedAnswer(tuple(value), ParseStatus.UNCHECKED)
    except TypeError:  # `[[('food', 'positive')], 5]` leaves 5, which has no items to count
        return ParsedAnswer((), ParseStatus.UNUSABLE, num_dropped=1)


def _read(answer: str):
    """Returns whatever the answer holds in place of a list of pairs; no repair (Q7)."""
    try:
        value = read_literal(clean(answer, drop_label=True))
    except ValueError:
        return [], ParseStatus.UNREADABLE
    if not isinstance(value, list | tuple):
        return [], ParseStatus.UNUSABLE
    try:
        return _unnest(wrap_single_pair(value)), ParseStatus.OK
    except (KeyError, TypeError):  # the first item is a number, None, a dict or a set
        return [], ParseStatus.UNUSABLE


def _unnest(value):
    """Of several lists of pairs only the last is kept, whatever it is."""
    nested = len(value) > 0 and len(value[0]) > 0 and isinstance(value[0][0], list | tuple)
    return value[-1] if nested else value
