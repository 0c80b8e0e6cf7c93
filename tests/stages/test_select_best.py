"""The student that scored best on SentiBench's training items is the one that is exported."""

import json
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import arrays_of, assert_trees_close, byte_tokenizer, random_cache, random_model

from sentidistill_jax.artifact import ArtifactMismatchError, fingerprint, write_json
from sentidistill_jax.evaluation.protocols import DevelopmentScorer
from sentidistill_jax.export import export
from sentidistill_jax.models.load import load_model, tokenizer_fingerprint
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.stages.train import train_student
from sentidistill_jax.workdir import Workdir

ROOT = Path(__file__).parents[2]
DATASET = "sc/sst2"

pytestmark = [
    pytest.mark.sentibench,
    pytest.mark.usefixtures("one_device"),
]


@pytest.fixture
def workdir(tmp_path):
    """With a finished cache of four sequences of eight tokens: as many steps of one row."""
    workdir, tokenizer = Workdir(tmp_path / "run"), byte_tokenizer(["positive", "negative"])
    model = tmp_path / "tiny"
    export(random_model(make_mesh({}, jax.devices()[:1]), tokenizer), model)
    cache = workdir.cache("knowdist")
    random_cache(
        cache / "records",
        [(4, 4)] * 4,
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
        chat_template_fingerprint=fingerprint(tokenizer.chat_template),
        config={"teacher": {"source": str(model)}},
    )
    return workdir


@pytest.fixture
def config(workdir, sentibench_dir):
    config = runpy.run_path(str(ROOT / "configs" / "base.py"))["get_config"]()
    source = str(workdir.root.parent / "tiny")
    config.teacher.update(source=source, dtype="float32")
    config.student.update(source=source, layers=(), dtype="float32")
    config.texts.sentibench_dir = str(sentibench_dir)
    config.data.update(
        global_batch_size=1, micro_batches=1, seq_length=8, scored_length=4, epochs=1
    )
    config.optimizer.update(warmup_fraction=0.0, frozen=())
    # The tiny model reads 256 tokens, here bytes.
    config.evaluation.sentibench.update(k_shot=0, max_new_tokens=1, too_long="left_truncate")
    config.evaluation.in_training.update(
        interval=1, datasets=(DATASET,), examples=12, select_best=True
    )
    made_from = {"generation": config.generation.to_dict(), "cache": config.cache.to_dict()}
    manifest = workdir.cache("knowdist") / "manifest.json"
    write_json(manifest, {"counts": 4, "made_from": made_from})
    return config.lock()


def looks(directory) -> dict[int, float]:
    """Step -> mean F1."""
    lines = map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["eval/mean_f1"] for line in lines if "eval/mean_f1" in line}


def export_of(directory) -> dict[str, np.ndarray]:
    """The parameters that were exported."""
    mesh = make_mesh({}, jax.devices())
    return parameters(load_model(str(directory / "model"), mesh, dtype=jnp.float32))


def parameters(model) -> dict[str, np.ndarray]:
    return {name: value.copy() for name, value in arrays_of(nnx.state(model.decoder)).items()}


@pytest.fixture
def seen(monkeypatch):
    """The parameters at each look; `stop_at` interrupts the look of that number, once."""

    class Seen(list):
        stop_at = 0

    seen, scores = Seen(), DevelopmentScorer.__call__

    def recorded(self, model):
        if len(seen) + 1 == seen.stop_at:
            seen.stop_at = 0
            raise KeyboardInterrupt
        seen.append(parameters(model.loaded))
        return scores(self, model)

    monkeypatch.setattr(DevelopmentScorer, "__call__", recorded)
    return seen


def test_the_first_of_the_best_is_exported(config, workdir, seen):
    """At this rate the score rises and then stays."""
    config.optimizer.learning_rate, config.data.epochs = 2e-3, 2
    train_student(config, workdir)
    directory = workdir.student("knowdist")
    scores = looks(directory)
    assert list(scores) == list(range(1, 9)) and len(set(scores.values())) > 1
    best = max(scores, key=lambda step: scores[step])  # the first of equal ones
    assert best < 8, "the last student is the best one: this proves nothing; change the rate"
    kept = json.loads((directory / "best.json").read_text())
    assert kept == {"step": best, f"eval/{DATASET}/f1": scores[best], "eval/mean_f1": scores[best]}
    assert_trees_close(export_of(directory), seen[best - 1], 0)
    for step, other in enumerate(seen, 1):
        same = all(np.array_equal(other[name], value) for name, value in seen[best - 1].items())
        assert same == (step == best)


def test_the_best_outlives_an_interruption(config, workdir, seen):
    """At this rate the score falls after the first step."""
    config.optimizer.learning_rate, config.checkpoint.interval = 5e-4, 2
    seen.stop_at = 4
    with pytest.raises(KeyboardInterrupt):
        train_student(config, workdir)
    train_student(config, workdir)
    directory = workdir.student("knowdist")
    assert len(seen) == 3 + 2  # step 3 is done and looked at once more
    assert json.loads((directory / "best.json").read_text())["step"] == 1
    assert set(looks(directory)) == {1, 2, 3, 4}
    assert_trees_close(export_of(directory), seen[0], 0)


def test_otherwise_the_last_is_exported_and_a_change_of_mind_is_refused(config, workdir, seen):
    config.optimizer.learning_rate = 5e-4
    config.evaluation.in_training.update(select_best=False, interval=3)
    train_student(config, workdir)
    directory = workdir.student("knowdist")
    assert list(looks(directory)) == [3, 4]  # the last step is looked at as well
    assert not (directory / "best.json").exists()
    assert_trees_close(export_of(directory), seen[-1], 0)
    config.evaluation.in_training.select_best = True
    with pytest.raises(ArtifactMismatchError, match="in_training"):
        train_student(config, workdir)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": ("sc/imbd",)}, "'sc/imbd' is not in SentiBench; choose one of"),
        ({"datasets": ()}, r"in_training has datasets=\(\) .* expected some data sets"),
        ({"examples": 0}, "examples=0; expected some data sets, and 1 to 396 examples"),
    ],
)
def test_nothing_to_choose_by_is_refused_before_anything_is_written(
    config, workdir, changes, message
):
    config.evaluation.in_training.update(**changes)
    with pytest.raises(ValueError, match=message):
        train_student(config, workdir)
    assert not workdir.student("knowdist").exists()


def test_without_data_there_is_nothing_to_choose_by(config, workdir, monkeypatch):
    monkeypatch.delenv("SENTIBENCH_DIR", raising=False)
    config.texts.sentibench_dir = ""
    with pytest.raises(ValueError, match="in_training.interval=1 needs SentiBench's files"):
        train_student(config, workdir)
    assert not workdir.student("knowdist").exists()
