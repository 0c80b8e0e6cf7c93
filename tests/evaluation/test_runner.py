"""SentiBench asked of models that are right, wrong or interrupted."""

import collections
import functools
import json

import numpy as np
import pytest

from sentidistill_jax.evaluation import results, runner, scoring
from sentidistill_jax.evaluation.benchmarks.sentibench import SENTIBENCH
from sentidistill_jax.evaluation.runner import Protocol
from sentidistill_jax.language_model import Completion

pytestmark = pytest.mark.sentibench

DATASETS = ("sc/twitter", "absa/acsa_rest16", "absa/opener")


class Oracle:
    """Answers with the gold labels but for every `wrong`-th prompt; finds them by the sentence."""

    name, origin, decoding, max_position = "oracle", {}, {}, None

    def __init__(self, load, wrong=0):
        self.wrong = wrong
        self.asked = []
        self.gold = {}
        for name in DATASETS:
            data = load(name)
            for item in data.test:
                gold = data.task.gold(item)
                answer = gold if data.task.label_words else str(gold)
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
    return functools.partial(SENTIBENCH.load, data_dir=sentibench_dir)


def test_gold_answers_score_as_the_official_scorer_says(load):
    entries, lines = runner.run(Oracle(load), Protocol(SENTIBENCH, DATASETS), load, None)
    assert [entries[name]["f1"] for name in DATASETS[:2]] == [1, 1]
    assert entries["absa/opener"]["f1"] == pytest.approx(0.89427, abs=5e-6)
    assert entries["absa/opener"]["variants"]["repaired"]["f1"] == pytest.approx(0.95491, abs=5e-6)
    twitter = entries["sc/twitter"]
    assert twitter["examples"] == twitter["test_examples"] == np.sum(twitter["confusion"])
    assert np.array_equal(np.diag(np.diag(twitter["confusion"])), twitter["confusion"])
    assert len(lines) == 1000 + 676 + 499
    assert lines[0]["set"] == "sentibench/sc/twitter" and lines[0]["seed"] == 42
    summary = results.benchmark_summary(SENTIBENCH, entries, 4)
    assert not summary["complete"] and len(summary["missing"]) == 9
    assert summary["average"] == pytest.approx((2 + 0.8943) / 12)
    assert summary["categories"]["basic"] == pytest.approx(0.25)


def test_scores_are_those_of_the_scorer_and_seeds_are_averaged(load):
    oracle = Oracle(load, wrong=3)
    entries, lines = runner.run(oracle, Protocol(SENTIBENCH, DATASETS, seeds=(42, 52)), load, None)
    for name in DATASETS:
        entry = entries[name]
        for seed in (42, 52):
            mine = [x for x in lines if x["seed"] == seed and x["set"] == SENTIBENCH.set_name(name)]
            predictions = results.predictions(SENTIBENCH.task(name), mine)
            expected = scoring.score(SENTIBENCH.task(name), load(name).test, predictions)
            assert entry["seeds"][str(seed)]["f1"] == pytest.approx(expected["f1"], abs=1e-12)
        f1 = [of_seed["f1"] for of_seed in entry["seeds"].values()]
        assert entry["f1"] == pytest.approx(np.mean(f1))
        assert entry["deviation"] == pytest.approx(np.std(f1, ddof=1))
        low, high = entry["interval_95"]
        assert low < entry["f1"] < high
    opener = entries["absa/opener"]["seeds"]["42"]
    assert opener["unfinished"] == 167 == opener["answers"]["unreadable"]
    json.dumps(entries)  # plain numbers throughout


def test_a_subset_is_the_beginning_of_the_whole(load):
    oracle = Oracle(load, wrong=3)
    whole, few = (
        runner.run(oracle, Protocol(SENTIBENCH, ("sc/twitter",), examples=examples), load, None)[1]
        for examples in (0, 10)
    )
    assert few == whole[:10]


def test_finished_parts_are_never_asked_again(load, tmp_path):
    protocol = Protocol(SENTIBENCH, DATASETS, examples=6, seeds=(1, 2))
    whole = runner.run(Oracle(load), protocol, load, None)

    class Interrupted(Oracle):
        def complete(self, prompts, max_new_tokens, *, stop=(), is_complete=None, progress=None):
            if len(self.asked) >= 18:
                raise KeyboardInterrupt
            return super().complete(prompts, max_new_tokens, stop=stop, is_complete=is_complete)

    with pytest.raises(KeyboardInterrupt):
        runner.run(Interrupted(load), protocol, load, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    second = Oracle(load)
    assert runner.run(second, protocol, load, tmp_path) == whole
    assert len(second.asked) == 18


def test_calibrated_predictions_stand_beside_the_official_ones(load):
    protocol = Protocol(
        SENTIBENCH, ("sc/twitter",), examples=9, contextual_calibration=True, batch_calibration=True
    )
    oracle = Oracle(load)
    entries, lines = runner.run(oracle, protocol, load, None)
    assert set(entries["sc/twitter"]["variants"]) == set(lines[0]["calibrated"])
    assert len(oracle.asked) == 18  # every prompt once more with a text that says nothing
    assert entries["sc/twitter"]["variants"]["contextual_calibration"]["f1"] == 1


def test_content_free_prompts_show_the_same_demonstrations(load):
    oracle = Oracle(load)
    protocol = Protocol(
        SENTIBENCH, ("sc/twitter",), examples=9, max_prompt_length=700,
        too_long="drop_demonstrations", contextual_calibration=True,
    )  # fmt: skip
    entries, _ = runner.run(oracle, protocol, load, None)
    assert entries["sc/twitter"]["seeds"]["42"]["prompts"]["demonstrations_dropped"] > 0
    for prompt, without in zip(oracle.asked[:9], oracle.asked[9:], strict=True):
        assert without == prompt.rsplit("Sentence:", 1)[0] + "Sentence: N/A\nLabel:"


def test_no_more_examples_are_asked_than_there_are():
    protocol = Protocol(SENTIBENCH, examples=500)
    assert [protocol.count(name) for name in ("multifaced/intimacy", "sc/sst2")] == [396, 500]
    assert Protocol(SENTIBENCH).count("sc/sst2") == 1821
    assert Protocol(SENTIBENCH).dataset_names == tuple(SENTIBENCH.tasks)


def test_nothing_starts_before_every_prompt_fits(load, tmp_path):
    oracle = Oracle(load)
    protocol = Protocol(
        SENTIBENCH, ("sc/twitter", "absa/opener"), examples=2, max_prompt_length=1200
    )
    with pytest.raises(ValueError, match="of absa/opener exceed 1200"):
        runner.run(oracle, protocol, load, tmp_path / "parts")
    assert not oracle.asked and not (tmp_path / "parts").exists()


def test_an_answer_may_stand_on_the_second_line(load):
    class SecondLine(Oracle):
        def complete(self, prompts, max_new_tokens, *, stop=(), is_complete=None, progress=None):
            assert "\n" not in "".join(stop)  # a server ends an answer at a stop text
            assert is_complete and is_complete("\n[]\n") and not is_complete("\n[")
            return [Completion("\n[('a', 'positive')]\n", None) for _ in prompts]

    protocol = Protocol(SENTIBENCH, ("absa/acsa_rest16",), examples=2)
    _, lines = runner.run(SecondLine(load), protocol, load, None)
    assert [line["answer"] for line in lines] == ["[('a', 'positive')]"] * 2


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
        Protocol(SENTIBENCH, **change)
