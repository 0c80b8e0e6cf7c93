"""Gold answers: the label of an item, or the label sequence of a fine-grained item."""

from collections.abc import Iterable

from sentidistill_jax.evaluation.data import Item
from sentidistill_jax.evaluation.sentiment_graph import Opinion, Span
from sentidistill_jax.evaluation.tasks import Task

NULL = "NULL"


def gold_label_index(task: Task, item: Item) -> int:
    """Returns the index of the item's label in `task.label_words`."""
    return task.labels.index(item["label"].lower())


def label_sequence(task: Task, item: Item) -> list[tuple[str, ...]]:
    """Returns the gold tuples of a fine-grained item, in the order a demonstration shows them.

    Values are as written in the data: not lower-cased and not stripped, but for ACSA categories.

    Args:
      task: A fine-grained task.
      item: One item of its data.

    Returns:
      (term, polarity), (category, polarity), (category, aspect, opinion, sentiment) or
      (holder, target, expression, polarity), by task.
    """
    return _SEQUENCES[task.name](item)


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


def demonstration_label(task: Task, item: Item) -> str:
    """Returns the text after `Label:` where the item serves as a demonstration."""
    if not task.label_words:
        return str(label_sequence(task, item))
    label = item["label"].lower()
    return f"{label}(opinion towards '{item['target']}')" if task.has_target else label


def _atsa(item: Item) -> list[tuple[str, ...]]:
    found = dict.fromkeys(
        (aspect["target"], aspect["polarity"], (aspect["from"], aspect["to"]))
        for aspect in item["aspects"]
        if aspect["target"] not in (NULL, None)
    )
    # Offsets are strings, so "100" sorts before "19" (Q4). Equal offsets keep the file order (Q1).
    ordered = sorted(found, key=lambda aspect: aspect[2])
    return [(term, polarity) for term, polarity, _ in ordered]


def _acsa(item: Item) -> list[tuple[str, ...]]:
    return _distinct(
        (aspect["category"].lower().replace("#", " "), aspect["polarity"])
        for aspect in item["aspects"]
    )


def _asqp(item: Item) -> list[tuple[str, ...]]:
    return _distinct(
        (quad["category"], quad["aspect"], quad["opinion"], quad["sentiment"])
        for quad in item["quards"]
    )


def _opener(item: Item) -> list[tuple[str, ...]]:
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


def _spans(part: list[list[str]]) -> tuple[Span, ...]:
    _, offsets = part  # e.g. ["8:73"]
    pairs = (offset.split(":") for offset in offsets)
    return tuple((int(begin), int(end)) for begin, end in pairs)


def _distinct(quads: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(quads))


_SEQUENCES = {
    "absa/atsa_rest16": _atsa,
    "absa/acsa_rest16": _acsa,
    "absa/asqp_rest16": _asqp,
    "absa/opener": _opener,
}
