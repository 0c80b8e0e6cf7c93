"""SentiBench asked of models that are right, wrong or interrupted."""

import collections
import functools
import json
from typing import Any

import numpy as np
import pytest

from sentidistill_jax.evaluation import official, results, sentibench
from sentidistill_jax.evaluation.data import load_dataset
from sentidistill_jax.evaluation.gold import gold_label_index, label_sequence
from sentidistill_jax.evaluation.sentibench import Protocol
from sentidistill_jax.evaluation.tasks import TASKS
from sentidistill_jax.language_model import Completion

pytestmark = pytest.mark.sentibench

DATASETS = ("sc/twitter", "absa/acsa_rest16", "absa/opener")


class Oracle:
    """Answers with the gold labels but for every `wrong`-th prompt; finds them by the sentence."""

    name, origin, decoding, max_position = "oracle", {}, {}, None

    def __init__(self, sentibench_dir, wrong=0):
        self.wrong = wrong
        self.asked = []
        self.gold = {}
        for name in DATASETS:
            data = load_dataset(name, sentibench_dir)
            for item in data.test:
                answer = (
                    gold_label_index(data.task, item)
                    if data.task.label_words
                    else str(label_sequence(data.task, item))
                )
                key = data.task.header, item["sentence"]
                self.gold.setdefault(key, collections.deque()).append(answer)

    def _answers(self, prompts):
        self.asked += prompts
        for number, prompt in enumerate(prompts):
            header, rest = prompt.split("\n\nSentence: ", 1)
            sentence = rest.rsplit("Sentence: ", 1)[-1].removesuffix("\nLabel:")
            # A sentence that occurs twice may have two answers; prompts come in file order.
            answers = self.gold.get((header, sentence), collections.deque([None]))
            right = answers[0]
            answers.rotate(-1)
            yield right if not self.wrong or number % self.wrong else None

    def with_settings(self, settings):
        return self

    def prompt_lengths(self, prompts):
        return [len(prompt) for prompt in prompts]

    def label_logprobs(self, prompts, label_words, *, progress=None):
        scores = np.full((len(prompts), len(label_words)), -9.0, np.float32)
        for row, right in zip(scores, self._answers(prompts), strict=True):
            if right is not None:
                row[right] = -0.5
        return scores

    def complete(self, prompts, max_new_tokens, *, stop=(), is_complete=None, progress=None):
        return [
            Completion("no" if right is None else f" {right}\n", right is not None)
            for right in self._answers(prompts)
        ]


@pytest.fixture
def load(sentibench_dir):
    return functools.partial(load_dataset, data_dir=sentibench_dir)


def test_gold_answers_score_as_the_official_scorer_says(sentibench_dir, load):
    entries, lines = sentibench.run(Oracle(sentibench_dir), Protocol(DATASETS), load, None)
    assert [entries[name]["f1"] for name in DATASETS[:2]] == [1, 1]
    assert entries["absa/opener"]["f1"] == pytest.approx(0.89427, abs=5e-6)
    assert entries["absa/opener"]["variants"]["repaired"]["f1"] == pytest.approx(0.95491, abs=5e-6)
    twitter = entries["sc/twitter"]
    assert twitter["examples"] == twitter["test_examples"] == np.sum(twitter["confusion"])
    assert np.array_equal(np.diag(np.diag(twitter["confusion"])), twitter["confusion"])
    assert len(lines) == 1000 + 676 + 499
    assert lines[0]["set"] == "sentibench/sc/twitter" and lines[0]["seed"] == 42
    summary = results.benchmark_summary(entries, 4)
    assert not summary["complete"] and len(summary["missing"]) == 9
    assert summary["average"] == pytest.approx((2 + 0.8943) / 12)
    assert summary["categories"]["basic"] == pytest.approx(0.25)


def test_scores_are_those_of_the_stable_surface_and_seeds_are_averaged(sentibench_dir, load):
    oracle = Oracle(sentibench_dir, wrong=3)
    entries, lines = sentibench.run(oracle, Protocol(DATASETS, seeds=(42, 52)), load, None)
    for name in DATASETS:
        entry = entries[name]
        for seed in (42, 52):
            mine = [x for x in lines if x["seed"] == seed and x["set"] == results.set_name(name)]
            predictions = results.predictions(TASKS[name], mine)
            expected = official.score(name, predictions, sentibench_dir)
            assert entry["seeds"][str(seed)]["f1"] == pytest.approx(expected["f1"], abs=1e-12)
        f1 = [of_seed["f1"] for of_seed in entry["seeds"].values()]
        assert entry["f1"] == pytest.approx(np.mean(f1))
        assert entry["deviation"] == pytest.approx(np.std(f1, ddof=1))
        low, high = entry["interval_95"]
        assert low < entry["f1"] < high
    opener = entries["absa/opener"]["seeds"]["42"]
    assert opener["unfinished"] == 167 == opener["answers"]["unreadable"]
    json.dumps(entries)  # plain numbers throughout


def test_a_subset_is_the_beginning_of_the_whole(sentibench_dir, load):
    oracle = Oracle(sentibench_dir, wrong=3)
    whole, few = (
        sentibench.run(oracle, Protocol(("sc/twitter",), examples=examples), load, None)[1]
        for examples in (0, 10)
    )
    assert few == whole[:10]


def test_finished_parts_are_never_asked_again(sentibench_dir, load, tmp_path):
    protocol = Protocol(DATASETS, examples=6, seeds=(1, 2))
    whole = sentibench.run(Oracle(sentibench_dir), protocol, load, None)

    class Interrupted(Oracle):
        def complete(self, prompts, max_new_tokens, **options: Any):
            if len(self.asked) >= 18:
                raise KeyboardInterrupt
            return super().complete(prompts, max_new_tokens)

    with pytest.raises(KeyboardInterrupt):
        sentibench.run(Interrupted(sentibench_dir), protocol, load, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    second = Oracle(sentibench_dir)
    assert sentibench.run(second, protocol, load, tmp_path) == whole
    assert len(second.asked) == 18


def test_calibrated_predictions_stand_beside_the_official_ones(sentibench_dir, load):
    protocol = Protocol(
        ("sc/twitter",), examples=9, contextual_calibration=True, batch_calibration=True
    )
    oracle = Oracle(sentibench_dir)
    entries, lines = sentibench.run(oracle, protocol, load, None)
    assert set(entries["sc/twitter"]["variants"]) == set(lines[0]["calibrated"])
    assert len(oracle.asked) == 18  # every prompt once more with a text that says nothing
    assert entries["sc/twitter"]["variants"]["contextual_calibration"]["f1"] == 1


def test_nothing_starts_before_every_prompt_fits(sentibench_dir, load, tmp_path):
    oracle = Oracle(sentibench_dir)
    protocol = Protocol(("sc/twitter", "absa/opener"), examples=2, max_prompt_length=1200)
    with pytest.raises(ValueError, match="of absa/opener exceed 1200"):
        sentibench.run(oracle, protocol, load, tmp_path / "parts")
    assert not oracle.asked and not (tmp_path / "parts").exists()


def test_a_served_model_may_answer_on_the_second_line(sentibench_dir, load):
    class Served(Oracle):
        def complete(self, prompts, max_new_tokens, *, stop=(), **options: Any):
            assert stop and "\n" not in "".join(stop)
            return [Completion("\n[('a', 'positive')]\n", None) for _ in prompts]

    protocol = Protocol(("absa/acsa_rest16",), examples=2)
    _, lines = sentibench.run(Served(sentibench_dir), protocol, load, None)
    assert [line["answer"] for line in lines] == ["[('a', 'positive')]"] * 2


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if not task.label_words])
def test_junk_in_an_answer_can_be_written_down(name, load):
    """An int that Python reads but refuses to print, a lone surrogate, an infinity."""
    junk = f"[(0x{'f' * 4000}, 'positive', 'b', 'c'), ('\\ud800', 'positive'), (1e999, 'positive')]"
    items = load(name).test[:1]
    (line,) = results.answer_lines(TASKS[name], items, 42, [Completion(junk, True)], [junk])
    assert json.loads(json.dumps(line)) == line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datasets": ("sc/amazon",)}, "'sc/amazon' is not in SentiBench"),
        ({"seeds": (1, 1)}, "none twice"),
        ({"too_long": "cut"}, "too_long='cut' must be one of"),
        ({"max_new_tokens": 0}, "max_new_tokens=0 must be at least 1"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        Protocol(**change)
