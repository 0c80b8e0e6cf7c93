import pytest

from sentidistill_jax.corpus.cleaning import clean, shorten, text_hash, words


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("works &amp;amp; looks  great\r", "works & looks great"),
        ("tea &not coffee &#39;now&#39;", "tea &not coffee 'now'"),
        ("''Frailty'' has heart", '"Frailty" has heart'),
        ("''its successes are tempered.''", "its successes are tempered."),
        ("\u201cA gem.\u201d", "A gem."),
        ("'Charly' will divide us", "'Charly' will divide us"),
        ('"Frailty" beats "Signs"', '"Frailty" beats "Signs"'),
        ("@Bob loves it https://t.co/x1", "@user loves it http"),
        ("mail me@home.org", "mail me@home.org"),
        ("zero\u200bwidth\x07bell", "zero width bell"),
        ("cafe\u0301", "caf\u00e9"),
        ('"', '"'),
    ],
)
def test_clean(raw, expected):
    assert clean(raw) == expected


def test_clean_is_idempotent():
    text = clean("''@Bob &amp;lt;3  https://t.co/x''")
    assert clean(text) == text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("it does n't work .", "It doesn't work."),
        ("-lrb- the -rrb- co-writer 's film", "(the) co writer's film"),
        ("cr\u00e8me br\u00fbl\u00e9e", "Creme Brulee"),
        ("it\u2019s @Ann", "it's"),
        ("see http://a.b/c now", "see now"),
    ],
)
def test_tokenisations_of_one_text_have_equal_words_and_hash(one, other):
    assert words(one) == words(other)
    assert text_hash(one) == text_hash(other)


def test_text_hash_tells_texts_apart():
    assert text_hash("good") != text_hash("not good")
    # Pinned, because ids on disk and the train/held-out split hang on it.
    assert text_hash("A good film.") == text_hash("a good film")
    assert text_hash("a good film") == "f4bbe42a324ac3396d7ac930a6300c7d"


@pytest.mark.parametrize(
    ("max_words", "expected"),
    [
        (20, 'Do n\'t go. He said "never!" and left. The end is far away'),
        (9, 'Do n\'t go. He said "never!" and left.'),
        (5, "Do n't go. He said"),  # the only sentence is shorter than half of what is allowed
        (3, "Do n't go."),
        (1, "Do"),
    ],
)
def test_shorten_ends_with_a_sentence_where_it_can(max_words, expected):
    text = 'Do n\'t go. He said "never!" and left. The end is far away'
    assert shorten(text, max_words) == expected
