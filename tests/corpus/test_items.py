import pytest

from sentidistill_jax.corpus.items import Field, parse_items, render_items

PAIR = (Field("aspect", quoted=True), Field("sentiment", ("positive", "negative")))
TRIPLE = (Field("aspect"), Field("opinion"), Field("polarity"))
ITEMS = (("driver's seat", "positive"), ("Übersetzung", "negative"))


@pytest.mark.parametrize("format", ["plain", "json", "tuples", "dict"])
@pytest.mark.parametrize("items", [(), ITEMS[:1], ITEMS])
def test_what_is_written_is_read(format, items):
    assert parse_items(f" {render_items(items, PAIR, format)}\n", PAIR, format) == items


@pytest.mark.parametrize("format", ["plain", "json", "tuples"])
def test_longer_tuples(format):
    items = (("seat", "soft", "positive"), ("seat", "grey", "neutral"))
    assert parse_items(render_items(items, TRIPLE, format), TRIPLE, format) == items


@pytest.mark.parametrize(
    ("format", "answer"),
    [
        ("tuples", "[('seat', 'positive')"),  # cut off
        ("tuples", "[('seat', 'positive', 'soft')]"),  # one value too many
        ("tuples", "['seat', 'positive']"),
        ("tuples", "('seat', 'positive')"),
        ("tuples", "[('seat', 'great')]"),  # no option
        ("tuples", "[('', 'positive')]"),
        ("tuples", "[('seat', 1)]"),
        ("tuples", "__import__('os')"),
        ("dict", "[('seat', 'positive')]"),
        ("dict", "{'seat': ['positive']}"),
        ("json", '[{"aspect": "seat"}]'),
        ("json", '{"aspect": "seat", "sentiment": "positive"}'),
        ("json", "5"),
        ("plain", "seat positive"),
        ("plain", ""),
    ],
)
def test_other_answers_are_no_items(format, answer):
    assert parse_items(answer, PAIR, format) is None
