"""What a benchmark is, on SentiBench and on a second one that is defined here and nowhere else."""

import dataclasses
import json

import numpy as np
import pytest

from sentidistill_jax.evaluation import results, runner
from sentidistill_jax.evaluation.answers import ParsedAnswer, ParseStatus
from sentidistill_jax.evaluation.benchmark import Benchmark
from sentidistill_jax.evaluation.benchmarks import BENCHMARKS, get_benchmark
from sentidistill_jax.evaluation.benchmarks.sentibench import SENTIBENCH
from sentidistill_jax.evaluation.table import RunResult, aggregate
from sentidistill_jax.evaluation.task import label_task, tuple_task
from sentidistill_jax.language_model import Completion
from sentidistill_jax.reporting.compare import compare
from sentidistill_jax.reporting.page import render_page
from sentidistill_jax.reporting.runs import Texts, read_scores
from sentidistill_jax.reporting.tables import table

# A second benchmark: two label tasks and one of tuples, which are written `term=polarity; ...`.


def _parse(answer, sentence, options):
    del options
    pairs = [tuple(part.strip().split("=")) for part in answer.split(";") if "=" in part]
    found = tuple(pair for pair in pairs if pair[0] in sentence)
    return ParsedAnswer(found, ParseStatus.OK if pairs else ParseStatus.UNREADABLE)


def _gold(item):
    return [(one["term"], one["polarity"]) for one in item["terms"]]


_TASKS = (
    label_task("mood", "labels", "Good or bad?", (" good", " bad"), sizes=(3, 0, 4)),
    label_task(
        "toward/topic",
        "labels",
        "For or against %s?",
        (" for", " against"),
        sizes=(3, 0, 4),
        header_fields=("topic",),
    ),
    tuple_task(
        "terms",
        "tuples",
        "List term=polarity.",
        gold=_gold,
        parse=_parse,
        list_field="terms",
        list_item_fields=("term", "polarity"),
        sizes=(3, 0, 4),
    ),
)
TINY = Benchmark(
    name="tiny",
    title="Tiny",
    tasks={task.name: task for task in _TASKS},
    data_dir_variable="TINY_DIR",
)
TERMS = [["soup", "good"], ["staff", "bad"]]


def _items(task, split):
    for at in range(task.split_sizes[split]):
        item = {"sentence": f"{split} {at}: soup and staff", "topic": f"topic {at}"}
        terms = [{"term": term, "polarity": polarity} for term, polarity in TERMS]
        yield item | ({"label": task.labels[at % 2]} if task.label_words else {"terms": terms})


@pytest.fixture
def data_dir(tmp_path):
    for task in TINY.tasks.values():
        for split, file in task.split_files.items():
            path = tmp_path / "tiny" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(list(_items(task, split))))
    return tmp_path / "tiny"


class Answering:
    """Says the same to every prompt."""

    origin, decoding, max_position = {}, {}, None

    def __init__(self, name, label, text):
        self.name, self._label, self._text = name, label, text

    def with_settings(self, settings):
        return self

    def prompt_lengths(self, prompts):
        return [len(prompt.split()) for prompt in prompts]

    def label_logprobs(self, prompts, label_words, *, progress=None):
        scores = np.full((len(prompts), len(label_words)), -4.0, np.float32)
        scores[:, self._label] = -0.5
        return scores

    def complete(self, prompts, max_new_tokens, *, stop=(), is_complete=None, progress=None):
        return [Completion(self._text, True) for _ in prompts]


MODELS = (
    Answering("half", 0, " soup=good; roof=bad\n"),  # `roof` is not in the sentence
    Answering("right", 1, " soup=good; staff=bad\n"),
)


@pytest.fixture
def workdir(data_dir, tmp_path):
    """A working directory with the scores of both models, as stage `evaluate` writes them."""
    for model in MODELS:
        entries, lines = runner.run(
            model,
            runner.Protocol(TINY, k_shot=2, seeds=(1, 2)),
            lambda name: TINY.load(name, data_dir),
            None,
        )
        folder = tmp_path / "run" / "evaluation" / model.name
        folder.mkdir(parents=True)
        scores = {
            "schema_version": results.SCORES_VERSION,
            "model": model.name,
            "sets": {TINY.set_name(name): entry for name, entry in entries.items()},
            "tiny": results.benchmark_summary(TINY, entries, 2),
        }
        (folder / "scores.json").write_text(json.dumps(scores))
        (folder / "predictions.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in lines)
        )
    return tmp_path / "run"


def test_a_benchmark_of_ones_own_is_asked_and_scored(workdir):
    scores = json.loads((workdir / "evaluation" / "half" / "scores.json").read_text())
    # One label is always said: F1 of 2/3 and 0. One of two terms is found: precision 1, recall 1/2.
    assert [scores["sets"][f"tiny/{name}"]["f1"] for name in TINY.tasks] == pytest.approx(
        [1 / 3, 1 / 3, 2 / 3]
    )
    summary = scores["tiny"]
    assert summary["complete"] and summary["missing"] == []
    assert summary["categories"] == pytest.approx({"labels": 0.3333, "tuples": 0.6667})
    assert summary["average"] == pytest.approx((2 * 0.3333 + 0.6667) / 3)
    lines = (workdir / "evaluation" / "half" / "predictions.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert (last["set"], last["gold"], last["predicted"]) == ("tiny/terms", TERMS, TERMS[:1])
    assert last["answer"] == "soup=good; roof=bad"


def test_its_prompts_name_the_topic_and_show_its_own_answers(data_dir):
    topic, terms = (TINY.load(name, data_dir) for name in ("toward/topic", "terms"))
    assert topic.prompt(3, seed=1, k=0) == (
        "For or against topic 3?\n\nSentence: test 3: soup and staff\nLabel:"
    )
    assert f"Label: {[tuple(pair) for pair in TERMS]}\n" in terms.prompt(0, seed=1, k=1)


def test_its_scores_are_in_the_table_and_on_the_page(workdir, data_dir):
    benchmarks = {"tiny": TINY}
    models = read_scores([workdir], benchmarks)
    rows = [line.split(" | ") for line in table(models, "markdown").splitlines()]
    assert rows[0][1:] == ["mood (4)", "topic (4)", "terms (4)", "labels", "tuples", "average |"]
    assert [rows[at][0] for at in (2, 3)] == ["| half", "| right"]
    assert rows[2][4:] == ["33.3", "66.7", "44.4 ± 0.0 |"]
    assert rows[3][4:] == ["33.3", "100.0", "55.6 ± 0.0 |"]
    texts = Texts([workdir], {"tiny": data_dir}, benchmarks)
    comparisons = compare(models, models[0], texts, num_examples=1)
    won = comparisons["right", "tiny/terms"].won[0]
    assert won.text == "test 0: soup and staff" and won.answer == str(TERMS)
    page = render_page(models, [], models[0], comparisons)
    assert "Tiny, tuples" in page and "average of all 3" in page and "SentiBench" not in page


def test_a_thirteenth_task_elsewhere_moves_no_average_of_sentibench():
    extra = dataclasses.replace(SENTIBENCH.tasks["sc/imdb"], name="sc/amazon")
    wider = dataclasses.replace(
        SENTIBENCH, name="wider", tasks={**SENTIBENCH.tasks, extra.name: extra}
    )
    stored = [RunResult("ours", "tiny", name, 42, 4, 0.6) for name in SENTIBENCH.tasks]
    (row,) = aggregate(SENTIBENCH, stored).rows
    assert row.average == 60.0
    assert row.categories == {"basic": 60.0, "multifaceted": 60.0, "fine-grained": 60.0}
    (row,) = aggregate(wider, stored).rows
    assert row.average == pytest.approx(60 * 12 / 13) and row.missing == ("sc/amazon",)
    with pytest.raises(ValueError, match="dataset='sc/amazon' is not in SentiBench"):
        aggregate(SENTIBENCH, [RunResult("ours", "tiny", "sc/amazon", 42, 4, 0.6)])


def test_benchmarks_are_found_by_name():
    assert get_benchmark("sentibench") is SENTIBENCH
    assert {name: benchmark.name for name, benchmark in BENCHMARKS.items()} == {
        name: name for name in BENCHMARKS
    }
    with pytest.raises(ValueError, match=r"benchmark='tiny' is not known; .*\['sentibench'\]"):
        get_benchmark("tiny")


def test_splits_are_read_raw_and_once(data_dir):
    loaded = TINY.load("mood", data_dir)
    assert loaded.task is TINY.tasks["mood"]
    assert (len(loaded.train), len(loaded.test)) == (3, 4)
    assert loaded.test[3] == list(_items(loaded.task, "test"))[3]
    assert TINY.load("mood", str(data_dir)) is loaded


def test_the_folder_comes_from_the_environment(data_dir, monkeypatch):
    monkeypatch.setenv("TINY_DIR", str(data_dir))
    assert TINY.data_dir() == data_dir and TINY.data_dir("other").name == "other"
    monkeypatch.delenv("TINY_DIR")
    with pytest.raises(FileNotFoundError, match="TINY_DIR is not set; .* mood/, terms/, toward/"):
        TINY.data_dir()


def test_means_count_a_missing_task_as_zero():
    values = {"mood": 0.5, "terms": 1.0}
    assert TINY.average(values) == 0.5
    assert TINY.category_means(values) == {"labels": 0.25, "tuples": 1.0}
