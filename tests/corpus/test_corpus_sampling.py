import random
from collections import Counter

from sentidistill_jax.corpus.cleaning import text_hash
from sentidistill_jax.corpus.sampling import cap_sources, draw_texts, shares
from sentidistill_jax.corpus.user_texts import UnlabelledText


def _texts(source: str, count: int) -> list[UnlabelledText]:
    texts = (f"{source} number {n}" for n in range(count))
    return [UnlabelledText(text_hash(text), source, text) for text in texts]


TEXTS = _texts("movie", 4000) + _texts("tweets", 4000)


def test_a_source_that_was_cut_hard_does_not_crowd_the_draws_that_follow():
    capped = cap_sources(TEXTS, {"tweets": 100}, key="texts")
    assert Counter(text.source for text in capped) == {"movie": 4000, "tweets": 100}
    drawn = draw_texts(capped, 41, key="knowdist")
    assert Counter(text.source for text in drawn) == {"movie": 40, "tweets": 1}


def test_shares_are_rounded_by_largest_remainder():
    texts = _texts("a", 50) + _texts("b", 30) + _texts("c", 21)
    drawn = Counter(text.source for text in draw_texts(texts, 10, key=""))
    assert drawn == {"a": 5, "b": 3, "c": 2}  # of 4.95, 2.97 and 2.08
    assert len(draw_texts(texts, 100, key="")) == 100


def test_what_a_limit_leaves_goes_to_the_others():
    weights = {"a": 1.0, "b": 1.0, "c": 2.0, "d": 0.0}
    assert shares(8, weights, dict.fromkeys("abcd", 10)) == {"a": 2, "b": 2, "c": 4}
    assert shares(8, weights, {"a": 10, "b": 10, "c": 2, "d": 10}) == {"a": 3, "b": 3, "c": 2}
    assert shares(8, weights, {"a": 1, "b": 0, "c": 2, "d": 10}) == {"a": 1, "b": 0, "c": 2}


def test_order_of_the_texts_changes_nothing():
    shuffled = random.Random(0).sample(TEXTS, len(TEXTS))
    assert draw_texts(shuffled, 300, key="x") == draw_texts(TEXTS, 300, key="x")
    limits = {"movie": 7, "tweets": 5}
    assert cap_sources(shuffled, limits, key="x") == cap_sources(TEXTS, limits, key="x")


def test_draws_of_different_names_are_independent():
    first, second = (set(draw_texts(TEXTS, 800, key=key)) for key in ("knowdist", "icldist"))
    # Two independent tenths share a hundredth: 80 +- 8.
    assert 50 < len(first & second) < 110
    # A draw is spread over the ids and is not the texts of lowest id.
    lowest = set(sorted(TEXTS, key=lambda text: text.id)[:800])
    assert 50 < len(first & lowest) < 110


def test_as_many_as_there_are():
    assert draw_texts(TEXTS[:3], 5, key="x") == sorted(TEXTS[:3], key=lambda text: text.id)
    assert draw_texts([], 5, key="x") == draw_texts(TEXTS, 0, key="x") == []
    assert len(cap_sources(TEXTS, {"movie": 0}, key="x")) == len(TEXTS)
