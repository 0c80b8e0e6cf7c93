"""Sentiment graph F1: token overlap of holder, target and expression, for OpeNER.

Follows the reference scorer, oddities included; `strict` repairs them (docs/fidelity.md, Q12).
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from sentidistill_jax.evaluation.answers import ScoringOptions
from sentidistill_jax.evaluation.metrics import Metric, Scores
from sentidistill_jax.evaluation.task import Item

Span = tuple[int, int]  # begin and end character


@dataclasses.dataclass(frozen=True)
class Opinion:
    """One opinion tuple as character spans."""

    holder: tuple[Span, ...]  # () if there is none
    target: tuple[Span, ...]
    expression: tuple[Span, ...]
    polarity: str | None  # as written in the data: Positive, Negative; None is never right


@dataclasses.dataclass(frozen=True)
class TokenOpinion:
    """One opinion tuple as sets of token numbers."""

    holder: frozenset[int]
    target: frozenset[int]
    expression: frozenset[int]
    polarity: str | None


# Stands for an absent holder or target, so that two absent ones agree.
_ABSENT = frozenset([-1])


def gold_opinions(item: Item) -> list[Opinion]:
    """Returns the opinions of an OpeNER item as character spans: what its score compares."""
    return [
        Opinion(
            holder=_spans(opinion["Source"]),
            target=_spans(opinion["Target"]),
            expression=_spans(opinion["Polar_expression"]),
            polarity=opinion["Polarity"],
        )
        for opinion in item["opinions"]
    ]


def _spans(part: list[list[str]]) -> tuple[Span, ...]:
    _, offsets = part  # e.g. ["8:73"]
    pairs = (offset.split(":") for offset in offsets)
    return tuple((int(begin), int(end)) for begin, end in pairs)


def graph_counts(
    sentences: Sequence[str],
    gold: Sequence[Iterable[Opinion]],
    predicted: Sequence[Iterable[Opinion]],
    *,
    strict: bool = False,
) -> Float[np.ndarray, "sentences 4"]:
    """Returns each sentence's share of precision and recall.

    Args:
      sentences: The test sentences; tokens are what single spaces separate.
      gold: Gold opinions of each sentence.
      predicted: Predicted opinions of each sentence.
      strict: Repairs the token conversion and the weights.

    Returns:
      Weight of the hit predictions, number of predictions, weight of the hit gold opinions,
      number of gold opinions.

    Raises:
      ValueError: If the lengths differ.
    """
    if not len(sentences) == len(gold) == len(predicted):
        raise ValueError(
            f"{len(sentences)} sentences, {len(gold)} gold and {len(predicted)} predicted; "
            "align them."
        )
    counts = np.zeros((len(sentences), 4))
    for row, sentence, wanted, found in zip(counts, sentences, gold, predicted, strict=True):
        wanted = [to_tokens(opinion, sentence, strict=strict) for opinion in wanted]
        found = [to_tokens(opinion, sentence, strict=strict) for opinion in found]
        row[:] = (
            sum(_weight(opinion, wanted, strict) for opinion in found),
            len(found),
            sum(_weight(opinion, found, strict) for opinion in wanted),
            len(wanted),
        )
    return counts


def graph_scores(totals: Num[np.ndarray, "*batch 4"]) -> Scores:
    """Sentiment graph F1 with its precision and recall from summed `graph_counts`.

    Args:
      totals: The four sums.

    Returns:
      `f1`, `precision` and `recall`, each of shape [*batch]; 0 where undefined (Q10).
    """
    found_weight, n_pred, gold_weight, n_gold = np.moveaxis(totals, -1, 0)
    precision = found_weight / (n_pred + 1e-16)  # the reference's guards against 0 / 0
    recall = gold_weight / (n_gold + 1e-16)
    f1 = 2 * precision * recall / (precision + recall + 1e-17)
    return {"f1": f1, "precision": precision, "recall": recall}


def _count(
    items: Sequence[Item], gold: Sequence[Any], answers: Sequence[Any], options: ScoringOptions
) -> np.ndarray:
    del gold  # tuples of texts; the score is of spans
    return graph_counts(
        [item["sentence"] for item in items],
        [gold_opinions(item) for item in items],
        [answer.opinions for answer in answers],
        strict=options.strict_opener,
    )


SENTIMENT_GRAPH_F1 = Metric(
    "sentiment_graph_f1", _count, graph_scores, ("", "n_pred", "", "n_gold")
)


def to_tokens(opinion: Opinion, sentence: str, *, strict: bool = False) -> TokenOpinion:
    """Converts character spans to token numbers.

    Args:
      opinion: Character spans into the sentence.
      sentence: The sentence.
      strict: A span covers the tokens it overlaps. Otherwise it covers those from a token that
        starts at its begin to one that ends at its end: none if it begins inside a token, all
        the rest if it ends inside one.

    Returns:
      Token numbers; an absent holder or target is the empty set.
    """
    offsets = token_offsets(sentence)
    cover = _overlapped if strict else _walked

    def tokens(spans: tuple[Span, ...]) -> frozenset[int]:
        return frozenset(token for span in set(spans) for token in cover(span, offsets))

    return TokenOpinion(
        tokens(opinion.holder),
        tokens(opinion.target),
        tokens(opinion.expression),
        opinion.polarity,
    )


def token_offsets(sentence: str) -> list[Span]:
    """Returns begin and end of the pieces between single spaces.

    Empty pieces at double spaces count, except at the very start and the very end.
    """
    offsets = []
    begin = 0
    for piece in sentence.split(" "):
        end = begin + len(piece)
        if end > 0 and begin < len(sentence):
            offsets.append((begin, end))
        begin = end + 1
    return offsets


def _walked(span: Span, offsets: list[Span]) -> list[int]:
    inside = False
    covered = []
    for number, (begin, end) in enumerate(offsets):
        inside = inside or begin == span[0]
        if inside:
            covered.append(number)
        if end == span[1]:
            inside = False
    return covered


def _overlapped(span: Span, offsets: list[Span]) -> list[int]:
    return [
        number for number, (begin, end) in enumerate(offsets) if begin < span[1] and span[0] < end
    ]


def _weight(opinion: TokenOpinion, others: list[TokenOpinion], strict: bool) -> float:
    """Share of the opinion's tokens that the best match covers; 0 unless it is a hit."""
    matches = [other for other in others if _overlap(opinion, other) > 0]
    right = [other for other in matches if other.polarity == opinion.polarity]
    if not right:
        return 0.0
    # The reference weighs over all matches, even of the wrong polarity, once there is a right one.
    return max(_overlap(opinion, other) for other in (right if strict else matches))


def _overlap(opinion: TokenOpinion, other: TokenOpinion) -> float:
    """Mean share of holder, target and expression tokens found in the other; 0 if one has none."""
    pairs = (
        (opinion.holder or _ABSENT, other.holder or _ABSENT),
        (opinion.target or _ABSENT, other.target or _ABSENT),
        (opinion.expression, other.expression),
    )
    shared = [len(mine & theirs) for mine, theirs in pairs]
    if not all(shared):
        return 0.0
    return sum(n / len(mine) for n, (mine, _) in zip(shared, pairs, strict=True)) / 3
