"""An exported student knows its prompts and its bias, and others can read it."""

import ast
import json
import re
import shlex
import shutil

import jax
import numpy as np
import pytest
import transformers
from helpers import byte_tokenizer, random_model

from sentidistill_jax.artifact import write_json
from sentidistill_jax.cli.main import main
from sentidistill_jax.corpus.records import write_records
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.export import export
from sentidistill_jax.inference.tokens import encode_chat, encode_prompt
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.stages.export import export_student
from sentidistill_jax.stages.predict import Labeller
from sentidistill_jax.workdir import Workdir

pytestmark = pytest.mark.usefixtures("one_device")

TEXTS = ["So good, so warm.", "Dull and far too long.", "A film about dogs.", "I love this!"]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """As training leaves it, with a teacher that has labelled one task."""
    workdir = Workdir(tmp_path_factory.mktemp("run"))
    mesh = make_mesh({}, jax.devices()[:1])
    model = random_model(mesh, byte_tokenizer(["positive", "negative"]))
    export(model, workdir.student("both") / "model")
    for name, source in (("both", "students/first"), ("first", "smollm2-135m-instruct")):
        made_from = {"seed": 3, "student": {"source": source, "layers": [1]}}
        write_json(workdir.student(name) / "made_from.json", made_from)
    texts = [UnlabelledText(f"id{i}", "mine", text) for i, text in enumerate(TEXTS)]
    write_records(workdir.texts / "train.jsonl", texts, UnlabelledText)
    write_json(workdir.texts / "manifest.json", {"counts": {"train": {"mine": len(TEXTS)}}})
    annotate = {"tasks": {"sentiment": 0}, "priors": {"sentiment": [0.8, 0.2]}}
    teacher = {"source": "org/teacher-7b"}
    write_json(workdir.annotations / "made_from.json", {"annotate": annotate, "teacher": teacher})
    return workdir


@pytest.fixture(scope="module")
def exported(workdir, tmp_path_factory):
    directory = tmp_path_factory.mktemp("exported") / "student"
    with pytest.MonkeyPatch.context() as patch:
        devices = jax.devices()[:1]
        patch.setattr(jax, "devices", lambda *backend: devices)
        export_student("students/both", workdir, directory, dtype="float32")
    return directory


def positive_shares(source, workdir, **options):
    labeller = Labeller.load(source, workdir, "sentiment", **options)
    return np.array([line["probs"]["positive"] for line in labeller.predict(TEXTS)])


def test_over_training_texts_its_labels_are_as_likely_as_the_prior_says(exported, workdir):
    elsewhere = Workdir(exported.parent)
    calibrated = positive_shares(str(exported), elsewhere)
    assert calibrated.mean() == pytest.approx(0.8, abs=1e-3)
    raw = positive_shares(str(exported), elsewhere, calibrate=False)
    np.testing.assert_array_equal(raw, positive_shares("students/both", workdir))
    assert abs(raw.mean() - 0.8) > 0.01
    tasks = json.loads((exported / "label_prompts.json").read_text())["tasks"]
    assert tasks["sentiment"]["offsets"] and not tasks["sentiment3"]["offsets"]
    assert "emotion" not in tasks  # whose words begin with one token here


def test_its_chat_is_its_prompt_and_an_export_of_it_is_the_same(exported, workdir, tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    asked = encode_prompt(tokenizer, f"Review: {TEXTS[0]}\nSentiment:")
    assert encode_chat(tokenizer, TEXTS[0]).tolist() == asked.tolist()
    export_student(str(exported), workdir, tmp_path / "again", dtype="float32")
    names = (
        "label_prompts.json", "chat_template.jinja", "generation_config.json", "config.json",
        "tokenizer.json", "model.safetensors",
    )  # fmt: skip
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (exported / name).read_bytes()


def test_its_card_says_where_it_comes_from_and_how_to_ask_it(
    exported, workdir, monkeypatch, capsys, tmp_path
):
    card = (exported / "README.md").read_text()
    for words in (
        "license: apache-2.0", "base_model: HuggingFaceTB/SmolLM2-135M-Instruct",
        "**Teacher**: org/teacher-7b", "mine (4)", "licence: apache-2.0", "no ground for a",
    ):  # fmt: skip
        assert words in card
    assert not (exported / "NOTICE").exists()
    monkeypatch.chdir(exported.parent)
    (command,) = re.findall(r"^sentidistill (predict .*)$", card, re.MULTILINE)
    assert main(shlex.split(command)) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["label"] in ("positive", "negative") and len(line["probs"]) == 2
    (snippet,) = re.findall(r"^```python\n(.*?)^```", card, re.MULTILINE | re.DOTALL)
    pytest.importorskip("torch", reason="needs torch, which the project does without")
    exec(snippet, {})
    assert ast.literal_eval(capsys.readouterr().out) == pytest.approx(line["probs"], abs=1e-4)


def test_what_learnt_from_gemma_carries_its_notice(workdir, tmp_path, monkeypatch):
    other = Workdir(tmp_path / "run")
    shutil.copytree(workdir.root, other.root)
    annotate = {"tasks": {}, "priors": {}}
    teacher = {"endpoint": {"model": "gemma-3-27b-it", "base_url": "x"}}
    write_json(other.annotations / "made_from.json", {"annotate": annotate, "teacher": teacher})
    export_student("students/both", other, tmp_path / "student", dtype="float32")
    assert "ai.google.dev/gemma/terms" in (tmp_path / "student" / "NOTICE").read_text()
    assert "license: gemma" in (tmp_path / "student" / "README.md").read_text()


def test_a_model_that_was_not_trained_here_gets_no_prompts(workdir, tmp_path):
    source = str(workdir.student("both") / "model")
    export_student(source, workdir, tmp_path / "model", dtype="float32")
    assert not (tmp_path / "model" / "label_prompts.json").exists()
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "model").chat_template is None


def test_a_classifier_has_the_labels_of_its_task(workdir, tmp_path):
    export_student(
        "students/both", workdir, tmp_path / "c", dtype="float32", form="classifier",
        calibration_texts=0,
    )  # fmt: skip
    config = json.loads((tmp_path / "c" / "config.json").read_text())
    assert config["id2label"] == {"0": "positive", "1": "negative"}
    with pytest.raises(ValueError, match="task='dance' must be one of"):
        export_student(
            "students/both", workdir, tmp_path / "d", dtype="float32", task="dance",
            calibration_texts=0,
        )  # fmt: skip
