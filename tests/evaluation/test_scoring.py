"""The scorer on official vectors and on gold answers."""

import json
from typing import Any

import numpy as np
import pytest

from sentidistill_jax.evaluation import scoring
from sentidistill_jax.evaluation.answers import OFFICIAL, ScoringOptions
from sentidistill_jax.evaluation.benchmarks.sentibench import SENTIBENCH

from .golden import read_vectors

FINE_GRAINED = [name for name, task in SENTIBENCH.tasks.items() if not task.label_words]


def _score(name, predictions, sentibench_dir, options=OFFICIAL):
    data = SENTIBENCH.load(name, sentibench_dir)
    return scoring.score(data.task, data.test, predictions, options)


def test_lenient_extraction_keeps_all_lines():
    generation = "[\n('a', 'positive')\n]"
    task = SENTIBENCH.task("absa/acsa_rest16")
    assert task.extract_answer(generation) == "["
    lenient = ScoringOptions(lenient_parsing=True)
    parsed = task.parse_answer(task.extract_answer(generation, lenient), "", lenient)
    assert parsed.items == (("a", "positive"),)


@pytest.mark.sentibench
def test_wrong_number_of_predictions(sentibench_dir):
    with pytest.raises(ValueError, match=r"3 predictions for sc/imdb, expected 1000"):
        _score("sc/imdb", "011", sentibench_dir)
    with pytest.raises(ValueError, match=r"0 predictions for absa/opener, expected 499"):
        _score("absa/opener", [], sentibench_dir)


@pytest.mark.sentibench
def test_predictions_that_are_no_label_index(sentibench_dir):
    wrong: Any
    for wrong in ("2", "positive", -1, 0.5, None, np.nan):
        with pytest.raises(ValueError, match=rf"{wrong!r} is no prediction for sc/imdb, expected"):
            _score("sc/imdb", [wrong] * 1000, sentibench_dir)
    same = [_score("sc/imdb", one, sentibench_dir) for one in ("1" * 1000, np.ones(1000))]
    assert same[0] == same[1]


def _gold_sequences(name, sentibench_dir):
    data = SENTIBENCH.load(name, sentibench_dir)
    return [data.task.gold(item) for item in data.test]


# F1 of perfect answers, printed as Python and as JSON; official, then each repair that matters.
PERFECT = [
    ("absa/atsa_rest16", {}, 1.0, 1.0),
    ("absa/acsa_rest16", {}, 1.0, 1.0),
    ("absa/asqp_rest16", {}, 0.99625, 0.0),
    ("absa/asqp_rest16", {"lenient_parsing": True}, 0.99625, 0.99625),
    ("absa/asqp_rest16", {"strip_gold": True}, 1.0, 0.0),
    ("absa/opener", {}, 0.89427, 0.0),
    ("absa/opener", {"strict_opener": True}, 0.95491, 0.0),
]


@pytest.mark.sentibench
@pytest.mark.parametrize(("name", "repairs", "python", "as_json"), PERFECT)
def test_perfect_answers(sentibench_dir, name, repairs, python, as_json):
    options = ScoringOptions(**repairs)
    for render, expected in ((str, python), (json.dumps, as_json)):
        answers = list(map(render, _gold_sequences(name, sentibench_dir)))
        scores = _score(name, answers, sentibench_dir, options)
        assert scores["f1"] == pytest.approx(expected, abs=5e-6)


@pytest.mark.sentibench
def test_strict_variant_forgives_a_cut_word(sentibench_dir):
    name = "absa/opener"
    cut = [
        str([(*quad[:2], quad[2][:-1], quad[3]) for quad in sequence])
        for sequence in _gold_sequences(name, sentibench_dir)
    ]
    strict = ScoringOptions(strict_opener=True)
    assert _score(name, cut, sentibench_dir)["f1"] == pytest.approx(0.78644, abs=5e-6)
    assert _score(name, cut, sentibench_dir, strict)["f1"] > 0.94


@pytest.mark.sentibench
def test_set_counting_ends_the_reward_for_repetition(sentibench_dir):
    name = "absa/atsa_rest16"
    repeated = [
        str(sequence + sequence[:1] * 9 + [("", "neutral")])
        for sequence in _gold_sequences(name, sentibench_dir)
    ]
    plain = _score(name, repeated, sentibench_dir)
    as_sets = _score(name, repeated, sentibench_dir, ScoringOptions(set_counting=True))
    assert plain["n_pred"] > as_sets["n_pred"]
    assert plain["precision"] > as_sets["precision"]


@pytest.mark.sentibench
def test_statuses_and_drops_are_reported(sentibench_dir):
    answers = ["[]"] * 544
    answers[:4] = ["[", "[(1, 'a', 'b', 'c')]", "[['a']]", "[('a','b','c','d')"]
    scores = _score("absa/asqp_rest16", answers, sentibench_dir)
    assert scores["answers_ok"] == 541 and scores["answers_repaired"] == 2
    assert scores["answers_unusable"] == 1 and scores["tuples_dropped"] == 1


@pytest.mark.sentibench
@pytest.mark.parametrize("name", ["sc/twitter", "absa/acsa_rest16", "absa/opener"])
def test_sentence_counts_give_the_score(sentibench_dir, name):
    data = SENTIBENCH.load(name, sentibench_dir)
    task = data.task
    if task.label_words:
        predictions = [index % 3 for index in range(task.test_size)]
    else:
        predictions = list(map(str, _gold_sequences(name, sentibench_dir)))
    counts, statistic = scoring.sentence_counts(task, data.test, predictions)
    assert len(counts) == task.test_size
    scores = _score(name, predictions, sentibench_dir)
    assert statistic(counts.sum(axis=0))["f1"] == scores["f1"]


@pytest.mark.golden
@pytest.mark.sentibench
@pytest.mark.parametrize("name", SENTIBENCH.tasks)
def test_official_scores(golden_dir, sentibench_dir, name):
    for row in read_vectors(golden_dir / "score.jsonl.gz"):
        if row["dataset"] != name:
            continue
        scores = _score(name, row["predictions"], sentibench_dir)
        if row["stable"]:
            expected = row["metrics"] | row.get("counts", {})
            found = {key: scores[key] for key in expected}
            assert found == pytest.approx(expected, abs=1e-10), row["id"]
        else:  # Q2: which three tuples are kept differs between the reference's processes
            observed = [metrics["f1"] for metrics in row["observed"]]
            assert min(observed) - 0.03 <= scores["f1"] <= max(observed) + 0.03, row["id"]


@pytest.mark.golden
@pytest.mark.sentibench
def test_official_runs_end_to_end(golden_dir, sentibench_dir):
    for row in read_vectors(golden_dir / "e2e.jsonl.gz"):
        name = row["dataset"]
        if name in FINE_GRAINED:
            predictions = [
                SENTIBENCH.task(name).extract_answer(text) for text in row["generations"]
            ]
            assert predictions == row["extracted"], row["id"]
        else:
            predictions = np.argmax(row["scores"], axis=-1)
            assert "".join(map(str, predictions)) == row["predictions"], row["id"]
        scores = _score(name, predictions, sentibench_dir)
        found = {"f1": round(scores["f1"], 4), "acc": round(scores.get("accuracy", 0), 4)}
        assert found == row["result"], row["id"]
