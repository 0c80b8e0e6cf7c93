"""Predictions of a data set and their entry in scores.json, by hand."""

import json

import numpy as np
import pytest

from sentidistill_jax.evaluation import results
from sentidistill_jax.evaluation.answers import ScoringOptions
from sentidistill_jax.evaluation.benchmarks.sentibench import SENTIBENCH
from sentidistill_jax.language_model import Completion

POLARITY, PAIRS = (SENTIBENCH.task(name) for name in ("sc/sst2", "absa/acsa_rest16"))
TEXTS = [{"sentence": str(at), "label": label} for at, label in enumerate(["Positive", "negative"])]
ASPECT = {"from": "0", "to": "4", "target": "soup", "category": "FOOD#QUALITY"}
REVIEW = {"sentence": "soup", "aspects": [ASPECT | {"polarity": "positive"}]}
PAIR = ["food quality", "positive"]
PROMPTS = {"too_long": 0}


def _label_lines(logprobs, calibrated=None, seed=42):
    scores = np.array(logprobs, np.float32)
    return results.label_lines("a/b", POLARITY, TEXTS, seed, scores, calibrated or {})


def _answer_lines(*texts, finished: bool | None = True):
    completions = [Completion(text, finished) for text in texts]
    return results.answer_lines("a/b", PAIRS, [REVIEW] * len(texts), 42, completions)


def test_lines_of_labels_and_ties_go_to_the_first():
    lines = _label_lines([[-2, -0.1], [-1, -1]], {"other": np.array([[1.0, 0], [0, 1]])})
    assert lines == [
        {
            "set": "a/b", "id": "0", "seed": 42, "gold": "positive", "predicted": "positive",
            "logprobs": [-2.0, -0.1], "calibrated": {"other": "negative"},
        },
        {
            "set": "a/b", "id": "1", "seed": 42, "gold": "negative", "predicted": "negative",
            "logprobs": [-1.0, -1.0], "calibrated": {"other": "positive"},
        },
    ]  # fmt: skip


def test_lines_of_answers():
    (line,) = _answer_lines(f" [{tuple(PAIR)}]\nmore")
    assert line == {
        "set": "a/b", "id": "0", "seed": 42, "gold": [PAIR], "predicted": [PAIR],
        "generation": f" [{tuple(PAIR)}]\nmore", "answer": f"[{tuple(PAIR)}]", "status": "ok",
        "finished": True,
    }  # fmt: skip


@pytest.mark.parametrize("task", [t for t in SENTIBENCH.tasks.values() if not t.label_words])
def test_junk_in_an_answer_can_be_written_down(task):
    """An int that Python reads but refuses to print, a lone surrogate, an infinity."""
    junk = f"[(0x{'f' * 4000}, 'positive', 'b', 'c'), ('\\ud800', 'positive'), (1e999, 'positive')]"
    item = {"sentence": "", task.list_field: []}
    (line,) = results.answer_lines("a/b", task, [item], 42, [Completion(junk, True)])
    assert json.loads(json.dumps(line)) == line


def test_an_entry_of_labels_averages_its_seeds():
    right, half = _label_lines([[-2, -1], [-1, -2]]), _label_lines([[-2, -1], [-2, -1]], seed=52)
    by_seed = {42: right, 52: half}
    entry = results.summarize(POLARITY, TEXTS, by_seed, dict.fromkeys(by_seed, PROMPTS), k_shot=4)
    assert entry["seeds"]["42"]["f1"] == 1 and entry["seeds"]["52"]["f1"] == pytest.approx(1 / 3)
    assert entry["f1"] == entry["macro_f1"] == pytest.approx(2 / 3)
    assert entry["accuracy"] == 0.75
    assert entry["deviation"] == pytest.approx(2 / 3 / 2**0.5)
    assert entry["confusion"] == [[1, 1], [0, 2]]  # gold major, summed over seeds
    assert (entry["examples"], entry["test_examples"], entry["k_shot"]) == (2, 1821, 4)
    assert entry["variants"] == {} and entry["metric"] == "macro_f1"


def test_variants_of_labels_are_scored_by_their_own_predictions():
    calibrated = {"other": np.array([[0, 1.0], [1, 0]])}
    lines = _label_lines([[-1, -2], [-1, -2]], calibrated)
    entry = results.summarize(POLARITY, TEXTS, {42: lines}, {42: PROMPTS}, k_shot=4)
    assert entry["f1"] == pytest.approx(1 / 3) and entry["deviation"] is None
    assert entry["variants"]["other"]["f1"] == 1


def test_an_entry_of_answers_counts_how_they_were_read_and_varies_how():
    as_json = f" [\n{json.dumps(PAIR)}\n]"  # the official answer ends at the first newline
    lines = _answer_lines(as_json, "no", finished=False)
    entry = results.summarize(PAIRS, [REVIEW] * 2, {42: lines}, {42: PROMPTS}, k_shot=4)
    of_seed = entry["seeds"]["42"]
    statuses = {status: count for status, count in of_seed["answers"].items() if count}
    assert statuses == {"repaired": 1, "unreadable": 1} and of_seed["unfinished"] == 2
    assert (of_seed["n_pred"], of_seed["n_gold"], of_seed["tuples_dropped"]) == (0, 2, 0)
    assert (entry["precision"], entry["recall"], entry["f1"]) == (1, 0, 0)
    lenient = entry["variants"]["lenient"]
    assert (lenient["precision"], lenient["recall"]) == (1, 0.5)
    assert set(entry["variants"]) == {"lenient", "repaired"}
    assert results.ANSWER_VARIANTS["repaired"] == ScoringOptions(True, True, True, True, True)


def test_an_answer_counts_as_cut_off_only_where_the_model_says_so():
    lines = [_answer_lines("[]", finished=finished)[0] for finished in (True, False, None)]
    entry = results.summarize(PAIRS, [REVIEW] * 3, {42: lines}, {42: PROMPTS}, k_shot=4)
    assert entry["seeds"]["42"]["unfinished"] == 1


def test_a_summary_is_complete_only_with_every_item_of_every_task():
    def entry(name, examples=None):
        size = SENTIBENCH.task(name).test_size
        return {
            "k_shot": 4, "examples": examples or size, "test_examples": size,
            "seeds": {"42": {"f1": 0.6}, "52": {"f1": 0.7}},
        }  # fmt: skip

    entries = {name: entry(name) for name in SENTIBENCH.tasks}
    whole = results.benchmark_summary(SENTIBENCH, entries, 4)
    assert whole["complete"] and whole["seeds"] == [42, 52] and whole["missing"] == []
    assert whole["average"] == pytest.approx(0.65)
    assert whole["deviation"] == pytest.approx(0.1 / 2**0.5)
    part = results.benchmark_summary(SENTIBENCH, entries | {"sc/sst2": entry("sc/sst2", 9)}, 4)
    assert not part["complete"] and part["average"] == whole["average"]
    del entries["absa/opener"]
    some = results.benchmark_summary(SENTIBENCH, entries, 4)
    assert not some["complete"] and some["missing"] == ["absa/opener"]
    assert some["average"] == pytest.approx(0.65 * 11 / 12)


def test_predictions_are_what_the_scorer_takes():
    assert results.predictions(POLARITY, _label_lines([[-2, -1], [-1, -2]])) == [1, 0]
    assert results.predictions(PAIRS, _answer_lines(" [] \n")) == ["[]"]
