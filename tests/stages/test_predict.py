"""Texts to labels: streamed from file to file, whatever is in the rows, and taken up again."""

import csv
import json

import jax
import numpy as np
import pytest
from helpers import byte_tokenizer, random_model

from sentidistill_jax.artifact import ArtifactMismatchError
from sentidistill_jax.corpus import icldist
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.export import export
from sentidistill_jax.inference.label_prompts import (
    LabelPrompt,
    known_label_prompts,
    label_prompts_file,
)
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.stages import predict as stage
from sentidistill_jax.stages.predict import Labeller, predict, predict_file
from sentidistill_jax.workdir import Workdir

pytestmark = pytest.mark.usefixtures("one_device")

TEXTS = ["So good, so warm.", "Dull and far too long.", "A film about dogs.", "I love this!", "No."]
LABELS = ("positive", "negative")


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model") / "tiny"
    mesh = make_mesh({}, jax.devices()[:1])
    export(random_model(mesh, byte_tokenizer(["positive", "negative"])), directory)
    return directory


@pytest.fixture(scope="module")
def labeller(model_directory):
    return Labeller.load(str(model_directory), Workdir(model_directory), "sentiment")


def test_every_prompt_is_that_of_the_corpus():
    prompts = known_label_prompts()
    assert {"sentiment", "emotion", "tense"} <= set(prompts)
    assert not {"stance", "aspect"} & set(prompts)  # ask about something in the text; no label
    for name, prompt in prompts.items():
        asked = icldist.build_prompt(name, UnlabelledText("", "", "A {film}."), ())
        assert prompt.about("A {film}.") == asked.prompt
        assert (prompt.words, prompt.labels) == (asked.label_words, icldist.TASKS[name].labels)


def test_shares_of_the_labels_add_up_and_the_likeliest_is_named(labeller):
    lines = list(labeller.predict(TEXTS))
    assert [line["text"] for line in lines] == TEXTS
    for line in lines:
        assert set(line["probs"]) == set(LABELS)
        assert sum(line["probs"].values()) == pytest.approx(1, abs=1e-3)
        assert line["probs"][line["label"]] == max(line["probs"].values())


def test_a_model_brings_its_own_tasks_and_what_is_known_of_its_bias(model_directory, tmp_path):
    folder = tmp_path / "student"
    folder.mkdir()
    for file in model_directory.iterdir():
        (folder / file.name).symlink_to(file)
    mine = LabelPrompt(
        "Post: {text}\nMood:", ("up", "down"), (" positive", " negative"), (0.7, -0.7)
    )
    (folder / "label_prompts.json").write_text(label_prompts_file({"mood": mine}))
    probs = {}
    for calibrate in (True, False):
        own = Labeller.load(str(folder), Workdir(tmp_path), "mood", calibrate=calibrate)
        assert own.prompt == mine
        shares = [list(line["probs"].values()) for line in own.predict(TEXTS)]
        probs[calibrate] = np.array(shares)
    odds = {name: np.log(value[:, 0] / value[:, 1]) for name, value in probs.items()}
    np.testing.assert_allclose(odds[True] - odds[False], 1.4, atol=0.01)
    with pytest.raises(ValueError, match=r"task='sentiment' must be one of \['mood'\]"):
        Labeller.load(str(folder), Workdir(tmp_path), "sentiment")
    (folder / "label_prompts.json").write_text('{"schema_version": 9}')
    with pytest.raises(ValueError, match="schema_version=9, expected 1"):
        Labeller.load(str(folder), Workdir(tmp_path), "mood")


@pytest.mark.parametrize(
    ("texts", "task", "message"),
    [
        (TEXTS, "aspect", "task='aspect' must be one of"),
        ((), "sentiment", "there is no text to label"),
    ],
)
def test_what_cannot_be_labelled_is_refused(tmp_path, texts, task, message):
    with pytest.raises(ValueError, match=message):
        next(predict("nowhere", Workdir(tmp_path), texts, task=task))


def write_rows(path):
    rows = [json.dumps({"text": text}) for text in TEXTS]
    rows[1:1] = ["{broken", json.dumps({"text": "long " * 1000})]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_row_without_a_label_says_why_and_costs_nothing_else(labeller, tmp_path):
    source = write_rows(tmp_path / "in.jsonl")
    summary = predict_file(lambda: labeller, source, tmp_path / "out.jsonl", column="text")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["line"] for line in lines] == [1, 2, 3, 4, 5, 6, 7]
    assert "not JSON" in lines[1]["error"] and "has room for" in lines[2]["error"]
    good = [line for line in lines if "error" not in line]
    expected = list(labeller.predict(TEXTS))
    assert [{k: v for k, v in line.items() if k != "line"} for line in good] == expected
    assert (summary.rows, summary.without_label) == (7, 2)
    assert "line 2: not JSON" in str(summary) and "line 3: a prompt of" in str(summary)

    predict_file(lambda: labeller, source, tmp_path / "out.csv", column="text")
    with (tmp_path / "out.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["line"], row["label"], row["error"]) for row in table] == [
        (str(line["line"]), line.get("label", ""), line.get("error", "")) for line in lines
    ]
    assert [float(row["p_positive"]) for row in table if row["label"]] == [
        line["probs"]["positive"] for line in good
    ]


@pytest.mark.parametrize("ending", [".jsonl", ".csv"])
def test_it_goes_on_where_it_was_stopped(labeller, tmp_path, monkeypatch, capsys, ending):
    monkeypatch.setattr(stage, "_BLOCK", 2)
    source, output = write_rows(tmp_path / "in.jsonl"), tmp_path / f"out{ending}"
    predict_file(lambda: labeller, source, tmp_path / f"whole{ending}", column="text")

    asked: list[str] = []
    label = Labeller.label

    def stopped(self, texts):
        if len(asked) > 2:
            raise KeyboardInterrupt
        asked.extend(texts)
        return label(self, texts)

    with monkeypatch.context() as patch:
        patch.setattr(Labeller, "label", stopped)
        with pytest.raises(KeyboardInterrupt):
            predict_file(lambda: labeller, source, output, column="text")
    assert not output.exists()
    with (tmp_path / f".out{ending}.partial").open("a") as file:
        file.write('{"line": 5, "te')  # as if the machine had gone while a block was written

    def recorded(self, texts):
        asked.extend(texts)
        return label(self, texts)

    monkeypatch.setattr(Labeller, "label", recorded)
    summary = predict_file(lambda: labeller, source, output, column="text")
    assert [text for text in asked if not text.startswith("long")] == TEXTS  # each once
    assert "4 rows are labelled already" in capsys.readouterr().out
    assert output.read_bytes() == (tmp_path / f"whole{ending}").read_bytes()
    assert (summary.rows, summary.without_label) == (7, 2)
    assert not list(tmp_path.glob(".*"))


def test_another_question_does_not_go_on_with_the_answers_of_the_first(
    labeller, model_directory, tmp_path, monkeypatch
):
    source, output = write_rows(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr("sentidistill_jax.growing_file.GrowingFile.finish", lambda self: None)
        predict_file(lambda: labeller, source, output, column="text")
    other = Labeller.load(str(model_directory), Workdir(tmp_path), "tense")
    with pytest.raises(ArtifactMismatchError, match=r"prompt was .* now .*choose another file"):
        predict_file(lambda: other, source, output, column="text")


def test_a_file_that_is_there_is_not_written_over(labeller, tmp_path):
    source, output = write_rows(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    output.write_text("mine")
    with pytest.raises(ValueError, match="exists already"):
        predict_file(lambda: labeller, source, output, column="text")
    assert output.read_text() == "mine"
