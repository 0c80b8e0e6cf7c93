"""One evaluated model tested against another: numbers by hand, and `evaluate --against`."""

import json
import shutil
import sys

import jax
import pytest
from helpers import byte_tokenizer, random_model

from sentidistill_jax.cli import main
from sentidistill_jax.corpus.records import write_records
from sentidistill_jax.corpus.user_texts import UnlabelledText, UserText
from sentidistill_jax.export import export
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.stages.report import against

from .write_run import POLARITY, label_lines, scores_of, write_model

SET, OTHER = "held_out/reviews", "held_out/tweets"
GOLD = [0, 1, 0, 1, 0, 1, 0, 1]
HALF = [1, 0, 1, 0, 0, 1, 0, 1]  # two of each label are wrong: F1 of 1/2 for both


def write(workdir, name, sets):
    lines = [line for of_set in sets.values() for line in of_set]
    write_model(workdir, name, {key: scores_of(of_set) for key, of_set in sets.items()}, lines)


def test_difference_and_p_value_by_hand(tmp_path):
    """Of the 16 ways to exchange the four disagreements, all and none are as extreme."""
    write(tmp_path, "half", {SET: label_lines(SET, GOLD, HALF)})
    write(tmp_path, "right", {SET: label_lines(SET, GOLD, GOLD)})
    for name, reference, difference in (("right", "half", 0.5), ("half", "right", -0.5)):
        (test,) = against(tmp_path, name, reference, None).values()
        assert test is not None
        assert (test.difference, test.examples) == (difference, 8)
        assert test.p_value == pytest.approx(2 / 16, abs=0.01)


def test_other_examples_and_other_gold_are_not_paired(tmp_path):
    write(
        tmp_path, "one", {SET: label_lines(SET, GOLD, HALF), OTHER: label_lines(OTHER, GOLD, HALF)}
    )
    other_gold = label_lines(OTHER, GOLD[::-1], HALF)
    write(tmp_path, "two", {SET: label_lines(SET, GOLD, GOLD), OTHER: other_gold})
    tests = against(tmp_path, "one", "two", None)
    assert tests[SET] is not None and tests[OTHER] is None
    other_ids = [line | {"id": f"x{line['id']}"} for line in label_lines(SET, GOLD, GOLD)]
    write(tmp_path, "three", {SET: other_ids, OTHER: other_gold})
    with pytest.raises(ValueError, match="'one' and 'three' have no predictions for the same"):
        against(tmp_path, "one", "three", None)


CONFIG = """
from configs import base

def get_config():
    config = base.get_config()
    config.student.dtype = "float32"
    return config
"""


@pytest.mark.usefixtures("one_device")
def test_evaluate_against_another_models_scores(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("SENTIBENCH_DIR", raising=False)
    monkeypatch.setattr(sys, "argv", sys.argv)  # main() replaces it
    model, run = tmp_path / "tiny", tmp_path / "run"
    export(random_model(make_mesh({}, jax.devices()[:1]), byte_tokenizer(POLARITY)), model)
    texts = [
        UserText(f"{source}{at}", source, f"Text {at}.", "held_out", POLARITY[gold])
        for source in ("movie", "tweets")
        for at, gold in enumerate(GOLD)
    ]
    write_records(run / "texts" / "held_out.jsonl", texts, UserText)
    train = [UnlabelledText("in0", "movie", "Another text.")]
    write_records(run / "texts" / "train.jsonl", train, UnlabelledText)
    (tmp_path / "config.py").write_text(CONFIG)

    def evaluate(name, *flags):
        config, workdir = f"--config={tmp_path / 'config.py'}", f"--workdir={run}"
        code = main(["evaluate", config, workdir, f"--model={model}", f"--name={name}", *flags])
        return code, capsys.readouterr()

    for reference, message in (("two", "'two' is not an evaluated"), ("one", "against itself")):
        code, said = evaluate("one", f"--against={reference}")
        assert code == 2 and message in said.err
        assert not (run / "evaluation").exists()  # refused before the work

    assert evaluate("one")[0] == 0
    one, two = (run / "evaluation" / name for name in ("one", "two"))
    shutil.copytree(one, two)
    lines = [json.loads(line) for line in (one / "predictions.jsonl").read_text().splitlines()]
    reviews, tweets = lines[:8], lines[8:]
    first = POLARITY.index(reviews[0]["predicted"])
    changed = [reviews[0] | {"predicted": POLARITY[1 - first]}, *reviews[1:]]
    changed += [line | {"predicted": line["gold"]} for line in tweets]  # all are right
    (two / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed))
    scores = json.loads((one / "scores.json").read_text())
    (two / "scores.json").write_text(json.dumps(scores | {"model": "two"}))

    code, said = evaluate("one", "--against=two")
    differences = [
        100 * (scores_of(lines[part])["f1"] - scores_of(changed[part])["f1"])
        for part in (slice(8), slice(8, 16))
    ]
    assert code == 0 and min(map(abs, differences)) > 1
    of_tweets = against(run, "one", "two", None)[OTHER]
    assert of_tweets is not None and of_tweets.p_value < 0.3
    # Whichever way the one disagreement is exchanged, the difference is as large.
    assert said.out.splitlines()[-3:] == [
        "one against two: difference in F1, points, and its p-value, adjusted by Holm's method"
        " over these sets",
        f"{SET:32}{differences[0]:+7.2f}  p = 1.0000  8 examples",
        # As on the page, p-values are adjusted for their number.
        f"{OTHER:32}{differences[1]:+7.2f}  p = {2 * of_tweets.p_value:.4f}  8 examples",
    ]
