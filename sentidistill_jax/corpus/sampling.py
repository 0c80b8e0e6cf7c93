"""Draws of user texts that depend on the texts alone, never on the order in which they come."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction

from sentidistill_jax.corpus.user_texts import UnlabelledText


def draw_texts(texts: Iterable[UnlabelledText], count: int, *, key: str) -> list[UnlabelledText]:
    """Draws texts at random, with every source in the proportion in which it comes.

    Args:
      texts: Texts of any sources, in any order.
      count: How many to draw; all, if there are not so many.
      key: Name of the draw. Draws of different names are independent, so each use of the texts
        needs its own: the texts of one draw are otherwise the first of every other.

    Returns:
      The texts, sorted by id. Shares are rounded by largest remainders, so no source is more than
      one text away from its proportion.
    """
    by_source = _by_source(texts)
    sizes = {source: len(found) for source, found in by_source.items()}
    drawn = [
        text
        for source, share in shares(count, sizes, sizes).items()
        for text in _lowest(by_source[source], share, key)
    ]
    return sorted(drawn, key=lambda text: text.id)


def cap_sources(
    texts: Iterable[UnlabelledText], limits: Mapping[str, int], *, key: str
) -> list[UnlabelledText]:
    """Draws at most `limits[source]` texts of each source (0 or no limit: all), sorted by id."""
    drawn = [
        text
        for source, found in _by_source(texts).items()
        for text in _lowest(found, limits.get(source, 0) or len(found), key)
    ]
    return sorted(drawn, key=lambda text: text.id)


def shares(count: int, weights: Mapping[str, float], limits: Mapping[str, int]) -> dict[str, int]:
    """Parts of `count` in proportion to `weights`, rounded by largest remainders.

    A part that would exceed its limit is that limit, and the others take what it leaves.
    """
    parts: dict[str, int] = {}
    free = {name: weight for name, weight in weights.items() if weight > 0}
    while free:
        proportional = _proportional(count - sum(parts.values()), free)
        full = {name: limits[name] for name in free if proportional[name] >= limits[name]}
        if not full:
            return parts | proportional
        parts |= full
        free = {name: weight for name, weight in free.items() if name not in full}
    return parts


def _proportional(count: int, weights: Mapping[str, float]) -> dict[str, int]:
    total = sum(map(Fraction, weights.values()))
    exact = {name: count * Fraction(weight) / total for name, weight in weights.items()}
    parts = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (parts[name] - exact[name], name))
    for name in by_remainder[: count - sum(parts.values())]:
        parts[name] += 1
    return parts


def _by_source(texts: Iterable[UnlabelledText]) -> dict[str, list[UnlabelledText]]:
    groups: dict[str, list[UnlabelledText]] = defaultdict(list)
    for text in texts:
        groups[text.source].append(text)
    return groups


def _lowest(texts: list[UnlabelledText], count: int, key: str) -> list[UnlabelledText]:
    """The texts whose hashes under `key` are lowest.

    Ids are hashes too, but the lowest ids are not a draw: where a source was cut to its lowest ids
    before, all of its texts lie in front of those of sources that were not.
    """

    def rank(text: UnlabelledText) -> bytes:
        return hashlib.blake2b(f"{key}/{text.id}".encode(), digest_size=16).digest()

    return sorted(texts, key=rank)[:count]
