"""ACSA answers: (aspect category, polarity) pairs; any category is accepted."""

from typing import Any

from sentidistill_jax.evaluation.options import OFFICIAL, ScoringOptions
from sentidistill_jax.evaluation.parsing.answer import (
    ParsedAnswer,
    ParseStatus,
    cut_repaired,
    repair_tuples,
)
from sentidistill_jax.evaluation.parsing.lenient import read_lenient
from sentidistill_jax.evaluation.parsing.literal import clean, read_literal
from sentidistill_jax.evaluation.parsing.pairs import check_all, check_each, wrap_single_pair

POLARITIES = ("positive", "neutral", "negative")


def parse_acsa(answer: str, options: ScoringOptions = OFFICIAL) -> ParsedAnswer:
    """Parses an ACSA answer.

    Args:
      answer: The extracted answer.
      options: Deviations from the reference.

    Returns:
      Pairs of str, and junk that counts as wrong predictions.
    """
    if options.lenient_parsing:
        value, status = read_lenient(answer)
    else:
        value, status = _read(clean(answer, drop_label=True))
        if status is not ParseStatus.OK and not options.per_item_checks:
            return ParsedAnswer(tuple(value), status)  # repaired pairs are not checked (Q8)
    check = check_each if options.per_item_checks else check_all
    try:
        return ParsedAnswer(tuple(check(value, _accept)), status)
    except (AttributeError, TypeError, ValueError):
        return ParsedAnswer(tuple(value), ParseStatus.UNCHECKED)


def _read(text: str):
    try:
        value = read_literal(text)
    except ValueError:
        return cut_repaired(*repair_tuples(text))
    if not isinstance(value, list | tuple):
        return [], ParseStatus.UNUSABLE
    return wrap_single_pair(value), ParseStatus.OK


def _accept(category: Any, polarity: Any) -> bool:
    return polarity in POLARITIES
