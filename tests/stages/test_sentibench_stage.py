"""SentiBench asked of a loaded model by stage `evaluate`: variants, seeds, resuming, counts."""

import json
import runpy
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import byte_tokenizer, random_model

from sentidistill_jax.artifact import ArtifactMismatchError
from sentidistill_jax.corpus.records import write_records
from sentidistill_jax.corpus.user_texts import UserText
from sentidistill_jax.evaluation.benchmarks.sentibench import SENTIBENCH
from sentidistill_jax.export import export
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.stages import evaluate
from sentidistill_jax.stages.evaluate import evaluate_student
from sentidistill_jax.workdir import Workdir

ROOT = Path(__file__).parents[2]
FIRST, SECOND = "sc/sst2", "sc/twitter"

pytestmark = [
    pytest.mark.sentibench,
    pytest.mark.usefixtures("one_device"),
]


@pytest.fixture
def config(tmp_path, sentibench_dir):
    model = tmp_path / "tiny"
    export(
        random_model(
            make_mesh({}, jax.devices()[:1]), byte_tokenizer(["positive", "negative", "neutral"])
        ),
        model,
    )
    config = runpy.run_path(str(ROOT / "configs" / "base.py"))["get_config"]()
    config.student.update(source=str(model), layers=(), dtype="float32")
    config.texts.sentibench_dir = str(sentibench_dir)
    config.evaluation.sentibench_examples = 5
    # The tiny model reads 256 tokens, here bytes: every prompt is too long.
    config.evaluation.sentibench.update(
        datasets=(FIRST, SECOND), seeds=(42, 52), k_shot=1, max_new_tokens=8, rows=4,
        too_long="left_truncate", contextual_calibration=True, batch_calibration=True,
    )  # fmt: skip
    return config.lock()


def test_an_interrupted_evaluation_goes_on_and_reports_all_that_was_asked(
    config, tmp_path, monkeypatch
):
    workdir = Workdir(tmp_path / "run")
    write_records(workdir.texts / "held_out.jsonl", [UserText("0", "x", "y", "held_out")], UserText)

    asked, label_logprobs = [], LocalModel.label_logprobs

    def counted(self, prompts, label_words, *, progress=None):
        asked.append(label_words)
        if len(asked) == 5:
            raise KeyboardInterrupt
        return label_logprobs(self, prompts, label_words, progress=progress)

    monkeypatch.setattr(LocalModel, "label_logprobs", counted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_student("one", config, workdir)
    directory = workdir.evaluation("one")
    assert len(list((directory / "parts").iterdir())) == 2  # both seeds of the first data set
    evaluate_student("one", config, workdir)
    assert (
        asked[:5] == [asked[0]] * 4 + [asked[4]]
        and asked[4:] == [SENTIBENCH.tasks[SECOND].label_words] * 5
    )
    assert not (directory / "parts").exists()

    scores = json.loads((directory / "scores.json").read_text())
    entry = scores["sets"][f"sentibench/{FIRST}"]
    by_seed = [entry["seeds"][seed] for seed in ("42", "52")]
    assert entry["f1"] == pytest.approx(np.mean([one["f1"] for one in by_seed]))
    assert entry["deviation"] == pytest.approx(np.std([one["f1"] for one in by_seed], ddof=1))
    assert set(entry["variants"]) == {"contextual_calibration", "batch_calibration"}
    for one in by_seed:
        assert (one["prompts"]["too_long"], one["prompts"]["tokens_max"]) == (5, 256 - 8)
    text = (directory / "predictions.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == 2 * 2 * 5
    for name, variant in entry["variants"].items():
        right = [line["calibrated"][name] == line["gold"] for line in lines if FIRST in line["set"]]
        assert variant["accuracy"] == pytest.approx(np.mean(right))
    assert scores["sentibench"]["seeds"] == [42, 52] and not scores["sentibench"]["complete"]
    assert scores["provenance"]["generation"]["max_new_tokens"] == 8


@pytest.fixture
def copied(config, tmp_path, sentibench_dir):
    """A folder of SentiBench's first data set that the config names, which may be altered."""
    shutil.copytree(sentibench_dir / FIRST, tmp_path / "copy" / FIRST)
    config.texts.sentibench_dir = str(tmp_path / "copy")
    config.evaluation.sentibench.update(datasets=(FIRST,), seeds=(42,))
    return tmp_path / "copy" / FIRST


def flip_first_label(file):
    items = json.loads(file.read_text(encoding="utf-8-sig"))
    labels = sorted({item["label"] for item in items})
    items[0]["label"] = labels[1 - labels.index(items[0]["label"])]
    file.write_text(json.dumps(items))


def test_scores_are_those_of_the_published_files_unless_others_are_meant(
    config, copied, tmp_path, monkeypatch
):
    workdir = Workdir(tmp_path / "run")  # without a corpus
    evaluate_student("one", config, workdir)
    scores = json.loads((workdir.evaluation("one") / "scores.json").read_text())
    assert list(scores["sets"]) == [f"sentibench/{FIRST}"]
    assert scores["provenance"]["data"]["held_out"] is None
    assert len(scores["provenance"]["data"]["sentibench"]) == 32

    # What no score depends on may change.
    config.evaluation.update(tokens_per_batch=512, max_num_seqs=2, calibration_texts=7)
    config.evaluation.in_training.interval = 5
    config.student.remat = "full"
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "load_student", None)  # nothing is loaded
        evaluate_student("one", config, workdir)
        flip_first_label(copied / "test.json")
        for name in ("one", "two"):
            with pytest.raises(ValueError, match="sc/sst2/test.json .*differ from the published"):
                evaluate_student(name, config, workdir)
        config.evaluation.sentibench.altered_files = True
        with pytest.raises(ArtifactMismatchError, match="data.sentibench was"):
            evaluate_student("one", config, workdir)
    evaluate_student("two", config, workdir)
    altered = json.loads((workdir.evaluation("two") / "scores.json").read_text())
    assert altered["provenance"]["data"] != scores["provenance"]["data"]


@pytest.mark.parametrize(
    ("split", "text", "error", "message"),
    [
        ("train", None, FileNotFoundError, "sc/sst2/train.json missing"),
        ("test", "[]", ValueError, "holds 0 items, expected a JSON array of"),
    ],
)
def test_bad_files_are_refused_before_a_model_is_loaded(
    config, copied, tmp_path, monkeypatch, split, text, error, message
):
    file = copied / f"{split}.json"
    file.unlink() if text is None else file.write_text(text)
    config.evaluation.sentibench.altered_files = True
    monkeypatch.setattr(evaluate, "load_student", None)
    workdir = Workdir(tmp_path / "run")
    with pytest.raises(error, match=message):
        evaluate_student("one", config, workdir)
    assert not workdir.root.exists()
