import numpy as np
import pytest

from sentidistill_jax.evaluation.benchmark import read_split
from sentidistill_jax.evaluation.benchmarks.sentibench import SENTIBENCH
from sentidistill_jax.evaluation.metrics import label_counts, label_scores
from sentidistill_jax.evaluation.significance import paired_randomization
from sentidistill_jax.reporting.compare import compare
from sentidistill_jax.reporting.runs import Texts, read_scores

from .write_run import label_lines, scores_of, write_model, write_texts

SET = "held_out/reviews"
GOLD = [0, 1, 0, 1, 1, 0, 1, 0]
RIGHT_5 = [0, 1, 0, 1, 1, 1, 0, 1]
RIGHT_6 = [0, 0, 0, 1, 1, 0, 1, 1]  # wins 5 and 6, loses 1


def compared(workdir, **kwargs):
    models = read_scores([workdir])
    return compare(models, models[0], Texts([workdir], {}), num_examples=1, **kwargs)


def write(workdir, name, lines, set_name=SET, labels=("negative", "positive")):
    write_model(workdir, name, {set_name: scores_of(lines, labels)}, lines)


def test_difference_p_value_and_examples_of_a_label_set(tmp_path):
    write_texts(tmp_path, [f"text {at}" for at in range(8)])
    write(tmp_path, "before", label_lines(SET, GOLD, RIGHT_5))
    write(tmp_path, "after", label_lines(SET, GOLD, RIGHT_6))
    found = compared(tmp_path)
    assert list(found) == [("after", SET)]
    one = found["after", SET]
    first, second = (label_counts(np.array(GOLD), np.array(said), 2) for said in (RIGHT_6, RIGHT_5))
    expected = paired_randomization(first, second, label_scores, seed=0)
    assert (one.difference, one.p_value) == (expected.difference, expected.p_value)
    assert (one.examples, one.num_won, one.num_lost) == (8, 2, 1)
    (won,), (lost,) = one.won, one.lost
    assert (won.id, won.text, won.gold) == ("5", "text 5", "negative")  # surer than 6
    assert (won.answer, won.reference_answer) == ("negative", "positive")
    assert (lost.id, lost.answer, lost.gold) == ("1", "negative", "positive")


def test_examples_are_paired_by_id_and_only_common_ones_count(tmp_path):
    write(tmp_path, "before", label_lines(SET, GOLD, RIGHT_5)[:6])
    write(tmp_path, "after", label_lines(SET, GOLD, RIGHT_6)[::-1])
    one = compared(tmp_path)["after", SET]
    assert (one.examples, one.num_won, one.num_lost) == (6, 1, 1)
    assert one.won[0].text is None


def test_an_examples_seeds_are_exchanged_together(tmp_path):
    """Twenty seeds with the same answers say no more than one."""
    lines = {
        seeds: [
            [
                line
                for seed in range(seeds)
                for line in label_lines(SET, GOLD * 4, said * 4, seed=seed)
            ]
            for said in (RIGHT_5, GOLD)
        ]
        for seeds in (1, 20)
    }
    p_values = []
    for seeds, (before, after) in lines.items():
        workdir = tmp_path / str(seeds)
        write(workdir, "before", before)
        write(workdir, "after", after)
        one = compared(workdir)["after", SET]
        assert one.examples == seeds * 32 and one.num_won == seeds * 12
        p_values.append(one.p_value)
    assert p_values[0] == p_values[1]


def test_tuples_are_compared_by_the_scores_of_their_task(tmp_path):
    def lines(answers):
        gold = [["food", "positive"], ["place", "negative"]]
        keys = {"set": "sentibench/absa/atsa_rest16", "seed": 42, "gold": gold}
        return [keys | {"id": str(at), "predicted": said} for at, said in enumerate(answers)]

    half, both = [["food", "positive"]], [["place", "negative"], ["food", "positive"]]
    name = "sentibench/absa/atsa_rest16"
    write(tmp_path, "before", lines([half, half, both]), name, None)
    write(tmp_path, "after", lines([both, [["fod", "positive"]], both]), name, None)
    one = compared(tmp_path)["after", name]
    assert (one.num_won, one.num_lost) == (1, 1)
    assert one.won[0].answer == str(both)
    assert one.difference == pytest.approx(
        2 * (4 / 5) * (4 / 6) / (4 / 5 + 4 / 6) - 2 * (4 / 6) / (1 + 4 / 6)
    )


@pytest.mark.sentibench
def test_sentiment_graphs_are_compared_where_the_sentences_are_at_hand(tmp_path, sentibench_dir):
    task = SENTIBENCH.tasks["absa/opener"]
    name = f"sentibench/{task.name}"
    items = read_split(task, "test", sentibench_dir)
    gold = [task.show(item) for item in items]
    for model, answers in (("before", ["[]"] * len(items)), ("after", gold)):
        lines = [
            {"set": name, "seed": 42, "id": str(at), "gold": [], "predicted": [], "answer": answer}
            for at, answer in enumerate(answers)
        ]
        scores = {"metric": "sentiment_graph_f1", "f1": 0.0, "examples": len(items)}
        write_model(tmp_path, model, {name: scores}, lines[::-1])
    models = read_scores([tmp_path])
    assert compare(models, models[0], Texts([], {}), num_examples=1) == {}
    texts = Texts([], {"sentibench": sentibench_dir})
    one = compare(models, models[0], texts, num_examples=1, num_resamples=100)["after", name]
    assert one.difference == pytest.approx(0.89427, abs=1e-5)  # see docs/fidelity.md
    assert items[int(one.won[0].id)]["sentence"] == one.won[0].text
    assert items[int(one.won[0].id)]["opinions"]


def test_p_values_are_adjusted_over_the_whole_report(tmp_path):
    """Holm: the smallest counts for all comparisons, the largest for itself."""
    write(tmp_path, "before", label_lines(SET, GOLD * 4, [1 - g for g in GOLD] * 4))
    write(tmp_path, "after", label_lines(SET, GOLD * 4, GOLD * 4))
    write(tmp_path, "same", label_lines(SET, GOLD * 4, [1 - g for g in GOLD] * 4))
    found = compared(tmp_path)
    after, same = found["after", SET], found["same", SET]
    assert after.adjusted_p_value == 2 * after.p_value < 0.01
    assert same.adjusted_p_value == same.p_value == 1.0
    assert not same.won and not same.lost


@pytest.mark.parametrize("why", ["no predictions", "other gold"])
def test_what_cannot_be_paired_is_left_out(tmp_path, why):
    write(tmp_path, "before", label_lines(SET, GOLD, RIGHT_5))
    lines = label_lines(SET, [1 - g for g in GOLD], RIGHT_6)
    sets = {SET: scores_of(lines)}
    write_model(tmp_path, "after", sets, () if why == "no predictions" else lines)
    assert compared(tmp_path) == {}
