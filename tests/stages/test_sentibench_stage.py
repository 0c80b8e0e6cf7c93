"""SentiBench asked of a loaded model by stage `evaluate`: variants, seeds, resuming, counts."""

import json
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import byte_tokenizer, random_model

from sentidistill_jax.corpus.records import write_records
from sentidistill_jax.corpus.user_texts import UserText
from sentidistill_jax.evaluation.benchmarks.sentibench import SENTIBENCH
from sentidistill_jax.export import export
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.sharding import make_mesh
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
