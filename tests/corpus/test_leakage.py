import json

import pytest

from sentidistill_jax.corpus.leakage import Leak, load_test_sentences, remove_leaks
from sentidistill_jax.corpus.user_texts import UnlabelledText

TEST_SENTENCES = {
    "sst2": [
        "it is n't a good film , but i liked it .",
        "the quick brown fox jumps over the lazy dog near the river",
        "too short",
    ],
    "imdb": [
        "We went on a friday. I would see this lovely little picture again at once. So would she.",
        "It isn't a good film, but I liked it!",
    ],
}


def _texts(*texts: str) -> list[UnlabelledText]:
    return [UnlabelledText(str(number), "movie", text) for number, text in enumerate(texts)]


def test_exact_match_ignores_tokenisation_and_counts_every_data_set():
    texts = _texts("It isn't a good film, but I liked it.", "It is a good film.")
    kept, report = remove_leaks(texts, TEST_SENTENCES)
    assert kept == texts[1:]
    assert report.counts() == {
        "movie": {"sst2": {"exact": 1, "near": 0}, "imdb": {"exact": 1, "near": 0}}
    }
    assert (report.texts_checked, report.texts_dropped) == (2, 1)
    assert report.sentences_checked == {"sst2": 3, "imdb": 2}


def test_near_match_by_the_shorter_side():
    texts = _texts(
        "I would see this lovely little picture again at once.",  # quoted inside a long review
        "Once: the quick brown fox jumps over the lazy dog. Then much more happens on that day.",
        "the quick brown fox stays at home and sleeps for the rest of the week",
    )
    kept, report = remove_leaks(texts, TEST_SENTENCES)
    assert kept == texts[2:]
    assert [(leak.text_id, leak.dataset, leak.kind) for leak in report.leaks] == [
        ("0", "imdb", "near"),
        ("1", "sst2", "near"),
    ]
    # Of the sentence's 8 shingles the text has the first 5.
    assert report.leaks[1].containment == pytest.approx(5 / 8)


def test_threshold_is_inclusive():
    text = _texts("Once: the quick brown fox jumps over the lazy dog. Then much more happens.")
    assert remove_leaks(text, TEST_SENTENCES, min_containment=5 / 8)[0] == []
    assert remove_leaks(text, TEST_SENTENCES, min_containment=5 / 8 + 1e-6)[0] == text
    with pytest.raises(ValueError, match=r"min_containment=0 must lie in \(0, 1\]"):
        remove_leaks(text, TEST_SENTENCES, min_containment=0)


def test_texts_shorter_than_a_shingle_match_only_exactly():
    texts = _texts("Too short!", "much too short")
    assert remove_leaks(texts, TEST_SENTENCES)[0] == texts[1:]


def test_best_sentence_of_a_data_set_is_reported_the_first_of_equals():
    text = "one two three four five six seven"
    weak, strong = "one two three four five six x y z", f"{text} x y z"
    _, report = remove_leaks(_texts(text), {"a": [weak, strong, f"{strong} more words"]})
    assert report.leaks == [Leak("0", "movie", "a", "near", 1.0, text, strong)]


def test_examples_are_limited_per_cell():
    texts = _texts(*["it isn't a good film but i liked it"] * 3)
    _, report = remove_leaks(texts, TEST_SENTENCES)
    assert [(leak.text_id, leak.dataset) for leak in report.examples(2)] == [
        ("0", "sst2"),
        ("0", "imdb"),
        ("1", "sst2"),
        ("1", "imdb"),
    ]


def test_load_test_sentences(tmp_path):
    folder = tmp_path / "sc" / "imdb"
    folder.mkdir(parents=True)
    (folder / "test.json").write_text(json.dumps([{"sentence": "a"}]), "utf-8-sig")
    (folder / "train.json").write_text("[]")
    assert load_test_sentences(tmp_path) == {"imdb": ["a"]}
    with pytest.raises(FileNotFoundError, match=r"No test files at .*/sc/<category>"):
        load_test_sentences(tmp_path / "sc")


@pytest.mark.sentibench
def test_sst2_stands_in_the_movie_snippets(real_texts, sentibench_dir):
    sentences = load_test_sentences(sentibench_dir)
    assert len(sentences) == 12
    texts = [text for text in real_texts.texts if text.source == "movie"]
    kept, report = remove_leaks(texts, {"sst2": sentences["sst2"]})
    exact = {leak.sentence for leak in report.leaks if leak.kind == "exact"}
    # 1,327 of the 1,821 by plain comparison; accents, hyphens and brackets hide the others.
    assert 1_327 <= len(exact) <= 1_600
    assert remove_leaks(kept, {"sst2": sentences["sst2"]})[0] == kept
