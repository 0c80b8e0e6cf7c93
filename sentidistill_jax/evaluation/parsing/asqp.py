"""ASQP answers: (category, aspect, opinion, sentiment) quads, unchecked but for their length."""

from sentidistill_jax.evaluation.options import OFFICIAL, ScoringOptions
from sentidistill_jax.evaluation.parsing.answer import (
    ParsedAnswer,
    cut_repaired,
    distinct_tuples,
    read_tuples,
)
from sentidistill_jax.evaluation.parsing.lenient import read_lenient
from sentidistill_jax.evaluation.parsing.literal import clean
from sentidistill_jax.evaluation.parsing.pairs import INVALID

ARITY = 4


def parse_asqp(answer: str, options: ScoringOptions = OFFICIAL) -> ParsedAnswer:
    """Parses an ASQP answer.

    Args:
      answer: The extracted answer.
      options: Deviations from the reference.

    Returns:
      Stripped quads. Tuples of another length vanish, or count as wrong with `per_item_checks`.
    """
    if options.lenient_parsing:
        found, status = read_lenient(answer)
        tuples = distinct_tuples(found)
    else:
        tuples, status = cut_repaired(*read_tuples(clean(answer)))
    items: list[object] = []
    num_dropped = 0
    for fields in tuples:
        if len(fields) != ARITY:
            items += [INVALID] if options.per_item_checks else []
            continue
        texts = [field for field in fields if isinstance(field, str | bytes)]  # bytes are junk
        if len(texts) == ARITY:
            items.append(tuple(text.strip() for text in texts))
        else:
            num_dropped += 1
    return ParsedAnswer(tuple(items), status, num_dropped)
