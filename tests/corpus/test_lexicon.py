import random

import pytest

from sentidistill_jax.corpus.lexicon import contradicted, meaning_choice, reworded


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I don't like the movie.", "I do not like the film."),
        ("Kids enjoyed it, I'm sure.", "Children liked it, I am sure."),
        ("It was a funny evening.", "It was an amusing evening."),
        ("An awful day.", "A terrible day."),
        ("The film-maker of that film's sequel, in The Tiny Film", None),
    ],
)
def test_reworded(text, expected):
    assert reworded(text) == expected


def test_contradicted_turns_one_word_and_rewords_the_others():
    rng = random.Random(0)
    assert contradicted("The best movie.", rng) == "The worst film."
    assert contradicted("It is easy to use.", rng) in {
        "It is difficult to use.",
        "It is hard to use.",
    }
    turned = {contradicted("Good and cheap.", rng) for _ in range(20)}
    assert turned == {"Bad and cheap.", "Good and expensive."}
    assert contradicted("Will Hunting by Good Will", rng) is None


def test_meaning_choice_offers_a_right_and_a_wrong_meaning():
    assert meaning_choice("A sturdy ladder.", random.Random(0)) == ("sturdy", "solid", "flimsy")
    assert meaning_choice("A ladder.", random.Random(0)) is None
