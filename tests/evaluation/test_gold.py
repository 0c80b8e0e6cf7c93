import pytest

from sentidistill_jax.evaluation import data
from sentidistill_jax.evaluation.gold import (
    demonstration_label,
    gold_label_index,
    gold_opinions,
    label_sequence,
)
from sentidistill_jax.evaluation.sentiment_graph import Opinion
from sentidistill_jax.evaluation.tasks import TASKS

from .golden import read_vectors


def _aspects(*rows):
    names = ("from", "to", "target", "category", "polarity")
    return {"aspects": [dict(zip(names, row, strict=True)) for row in rows]}


def test_atsa_offsets_sort_as_strings():
    item = _aspects(
        ("19", "23", "wine", "DRINKS#QUALITY", "positive"),
        ("100", "104", "food", "FOOD#QUALITY", "negative"),
        ("0", "0", "NULL", "SERVICE#GENERAL", "neutral"),
        ("100", "104", "food", "FOOD#PRICES", "negative"),
    )
    assert label_sequence(TASKS["absa/atsa_rest16"], item) == [
        ("food", "negative"),
        ("wine", "positive"),
    ]


def test_atsa_keeps_the_pair_at_two_offsets_and_ties_in_file_order():
    item = _aspects(
        ("5", "9", "food", "A", "positive"),
        ("5", "9", "food", "B", "negative"),
        ("1", "5", "food", "A", "positive"),
    )
    assert label_sequence(TASKS["absa/atsa_rest16"], item) == [
        ("food", "positive"),
        ("food", "positive"),
        ("food", "negative"),
    ]


def test_acsa_keeps_null_targets_and_first_occurrences():
    item = _aspects(
        ("0", "0", "NULL", "FOOD#STYLE_OPTIONS", "positive"),
        ("1", "5", "wine", "DRINKS#PRICES", "negative"),
        ("6", "9", "roll", "FOOD#STYLE_OPTIONS", "positive"),
    )
    task = TASKS["absa/acsa_rest16"]
    assert label_sequence(task, item) == [
        ("food style_options", "positive"),
        ("drinks prices", "negative"),
    ]
    assert demonstration_label(task, {"aspects": []}) == "[]"


def test_asqp_order_is_category_aspect_opinion_sentiment_unstripped():
    quad = {"aspect": "chef's", "category": "food", "sentiment": "positive", "opinion": "good "}
    task = TASKS["absa/asqp_rest16"]
    assert (
        demonstration_label(task, {"quards": [quad, quad]})
        == """[('food', "chef's", 'good ', 'positive')]"""
    )


def test_opener_label_sequence_and_opinions():
    item = {
        "opinions": [
            {
                "Source": [[], []],
                "Target": [["staff"], ["4:9"]],
                "Polar_expression": [["to keep", "happy"], ["0:7", "10:15"]],
                "Polarity": "Positive",
            }
        ]
    }
    task = TASKS["absa/opener"]
    assert label_sequence(task, item) == [("NULL", "staff", "to keep AND happy", "positive")]
    assert gold_opinions(item) == [Opinion((), ((4, 9),), ((0, 7), (10, 15)), "Positive")]
    assert label_sequence(task, {"opinions": []}) == [("NULL",) * 4]
    assert gold_opinions({"opinions": []}) == []


def test_label_tasks():
    stance = {"label": "FAVOR", "target": "Joe Biden"}
    assert (
        demonstration_label(TASKS["multifaced/pstance"], stance)
        == "favor(opinion towards 'Joe Biden')"
    )
    assert demonstration_label(TASKS["sc/imdb"], {"label": "Positive"}) == "positive"
    assert gold_label_index(TASKS["multifaced/irony18"], {"label": "non-irony"}) == 0


@pytest.mark.golden
@pytest.mark.sentibench
def test_official_label_sequences(golden_dir, sentibench_dir):
    for row in read_vectors(golden_dir / "labels.jsonl"):
        dataset = data.load_dataset(row["dataset"], sentibench_dir)
        item = getattr(dataset, row["split"])[row["index"]]
        if "rendered" in row:
            assert demonstration_label(dataset.task, item) == row["rendered"], row
        else:
            pairs = label_sequence(dataset.task, item)
            assert sorted(map(list, pairs)) == sorted(row["label_multiset"]), row
