"""The loop on a tiny cache: it learns, it resumes bit for bit, it stops where it must."""

import gc
import json
import os
import pathlib
import signal
from collections.abc import Callable

import jax
import numpy as np
import pytest
from flax import nnx
from helpers import TINY, arrays_of, random_cache
from ml_collections import ConfigDict
from tiny_run import STEPS, fingerprints, tiny_config, train, write_cache, write_model

from sentidistill_jax.data.teacher_cache import CacheMismatchError
from sentidistill_jax.errors import Interrupted, NonFiniteLossError, StorageError
from sentidistill_jax.models.load import load_model
from sentidistill_jax.settings import Config
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.training import train as train_module
from sentidistill_jax.training.objectives import Mean
from sentidistill_jax.training.train import CacheSource, scalars_of

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def cache(tmp_path_factory, model_directory):
    return write_cache(tmp_path_factory.mktemp("cache") / "records", model_directory)


@pytest.fixture
def config(model_directory) -> Config:
    return tiny_config(model_directory)


def lines_of(workdir: pathlib.Path) -> list[dict[str, float]]:
    """Metrics without what the clock says."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in line if "speed/" not in name} for line in lines]


def assert_same_run(got, expected, got_workdir, expected_workdir):
    """The same parameters and metrics, bit for bit."""
    a, b = (arrays_of(nnx.state(model.decoder)) for model in (got, expected))
    for name, value in b.items():
        np.testing.assert_array_equal(a[name], value, err_msg=name)
    assert lines_of(got_workdir) == lines_of(expected_workdir)


def before_batch(monkeypatch, step: int, happens: Callable[[], None]) -> None:
    """Lets something happen right before the batch of a step (the first is 1) is handed out."""
    iterate = train_module.iterate

    def watched(batches, mesh, *, start_step):
        for at, batch in enumerate(iterate(batches, mesh, start_step=start_step), start_step + 1):
            if at == step:
                happens()
            yield batch

    monkeypatch.setattr(train_module, "iterate", watched)


def latest(workdir: pathlib.Path) -> int | None:
    steps = [int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()]
    return max(steps, default=None)


def test_it_learns_four_random_sequences_by_heart(config, cache, tmp_path):
    config.data.epochs, config.checkpoint.interval = 40, 1000
    config.objective.alpha = 0.0
    train(config, [cache], tmp_path)
    lines = lines_of(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 81))
    first, last = lines[0]["train/ce_nats"], lines[-1]["train/ce_nats"]
    assert first > 5 and last < 0.1


@pytest.fixture
def uninterrupted(config, cache, tmp_path):
    workdir = tmp_path / "uninterrupted"
    return train(config, [cache], workdir), workdir


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(
    config, cache, tmp_path, uninterrupted, monkeypatch, signal_number
):
    workdir, handler = tmp_path / "stopped", signal.getsignal(signal_number)
    with monkeypatch.context() as patch:
        before_batch(patch, 3, lambda: os.kill(os.getpid(), signal_number))
        with pytest.raises(Interrupted, match=f"{signal_number.name} after step 3 of {STEPS}"):
            train(config, [cache], workdir)
    assert latest(workdir) == 3 and len(lines_of(workdir)) == 3
    assert signal.getsignal(signal_number) == handler
    resumed = train(config, [cache], workdir)
    assert_same_run(resumed, uninterrupted[0], workdir, uninterrupted[1])


def test_a_killed_run_repeats_the_steps_since_its_checkpoint(
    config, cache, tmp_path, uninterrupted, monkeypatch
):
    workdir = tmp_path / "killed"
    config.checkpoint.interval = 3

    class Killed(Exception):
        pass

    def kill():
        raise Killed

    with monkeypatch.context() as patch:
        before_batch(patch, 6, kill)
        with pytest.raises(Killed):
            train(config, [cache], workdir)
    assert latest(workdir) == 3 and len(lines_of(workdir)) == 4
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "train/lo')  # a line that was being written
    resumed = train(config, [cache], workdir)
    assert_same_run(resumed, uninterrupted[0], workdir, uninterrupted[1])


def test_a_full_disk_under_the_loop_is_no_mistake_and_loses_nothing(
    config, cache, tmp_path, uninterrupted
):
    workdir = tmp_path / "full"
    workdir.mkdir()
    (workdir / ".metrics.jsonl").symlink_to("/dev/full")  # becomes metrics.jsonl
    with pytest.raises(StorageError, match="No space left on device.*run the same command again"):
        train(config, [cache], workdir)
    (workdir / "metrics.jsonl").unlink()
    resumed = train(config, [cache], workdir)
    assert_same_run(resumed, uninterrupted[0], workdir, uninterrupted[1])


def test_a_finished_run_is_not_trained_further(config, cache, uninterrupted, monkeypatch):
    model, workdir = uninterrupted
    assert latest(workdir) == STEPS
    assert [path.name for path in (workdir / "checkpoints").glob("[0-9]*")] == [str(STEPS)]
    before = lines_of(workdir)

    def no_step(*args, **kwargs):
        raise AssertionError("a step was taken")

    monkeypatch.setattr(train_module, "train_step", no_step)
    again = train(config, [cache], workdir)
    assert_same_run(again, model, workdir, workdir)
    assert lines_of(workdir) == before


def test_metrics_of_a_run_name_the_kinds_that_were_in_the_batch(uninterrupted):
    lines = lines_of(uninterrupted[1])
    assert all(line["train/completion_tokens"] == 8 for line in lines)  # two sequences of four
    polarity = ["train/polarity/ce_nats" in line for line in lines]
    assert any(polarity) and not all(polarity)
    assert ["train/polarity/label_kl_nats" in line for line in lines] == polarity
    assert ["train/label_kl_nats" in line for line in lines] == polarity


def test_scalars_are_averages_over_tokens_or_answers():
    tokens, answers = np.array([4.0, 0.0, 6.0]), np.array([0.0, 0.0, 2.0])
    metrics = {
        "loss": np.float32(2.5),
        "gradient_norm": np.float32(0.5),
        "completion_tokens": np.float32(10.0),
        "means": {
            "ce_nats": Mean(np.array([8.0, 0.0, 3.0]), tokens),
            "divergence_nats": Mean(np.array([4.0, 0.0, 6.0]), tokens),
            "label_kl_nats": Mean(np.array([0.0, 0.0, 1.0]), answers),
        },
    }
    assert scalars_of(metrics, ("emotion", "irony", "polarity")) == {
        "train/loss": 2.5,
        "train/gradient_norm": 0.5,
        "train/completion_tokens": 10.0,
        "train/ce_nats": pytest.approx(1.1),
        "train/emotion/ce_nats": 2.0,
        "train/polarity/ce_nats": 0.5,
        "train/divergence_nats": 1.0,
        "train/emotion/divergence_nats": 1.0,
        "train/polarity/divergence_nats": 1.0,
        "train/label_kl_nats": 0.5,
        "train/polarity/label_kl_nats": 0.5,
    }


def test_frozen_parameters_come_out_as_they_went_in(config, cache, tmp_path, model_directory):
    config.optimizer.frozen, config.data.epochs = ("embedding", "norm"), 1
    trained = arrays_of(nnx.state(train(config, [cache], tmp_path).decoder))
    mesh = make_mesh({"data": 1})
    before = arrays_of(nnx.state(load_model(str(model_directory), mesh).decoder))
    same = {name for name in before if np.array_equal(before[name], trained[name])}
    assert same == {name for name in before if "embedding" in name or "norm" in name}


def test_the_average_is_what_comes_out(config, cache, tmp_path, uninterrupted):
    config.optimizer.ema_decay = 0.9
    average = arrays_of(nnx.state(train(config, [cache], tmp_path / "average").decoder))
    last = arrays_of(nnx.state(uninterrupted[0].decoder))
    lines = zip(lines_of(tmp_path / "average"), lines_of(uninterrupted[1]), strict=True)
    for got, expected in lines:  # two programs, which may round a last bit in different ways
        assert got == pytest.approx(expected, rel=1e-5)
    assert all(np.abs(last[name] - average[name]).max() > 1e-4 for name in last)


def test_what_is_looked_at_during_training_is_what_would_be_exported(config, cache, tmp_path):
    config.optimizer.ema_decay = 0.9
    seen = {}

    def look(step, model):
        seen[step] = arrays_of(nnx.state(model.decoder))
        return {"eval/mean_f1": step / 10}

    trained = train(config, [cache], tmp_path, interval=4, on_interval=look)
    assert list(seen) == [4, STEPS]
    for name, value in arrays_of(nnx.state(trained.decoder)).items():
        np.testing.assert_array_equal(seen[STEPS][name], value)
    scores = {line["step"]: line.get("eval/mean_f1") for line in lines_of(tmp_path)}
    assert scores[4] == 0.4 and scores[STEPS] == STEPS / 10
    assert latest(tmp_path) == STEPS


def test_adapters_learn_and_come_out_merged(config, cache, tmp_path, model_directory):
    config.lora.update(rank=4)
    config.student.param_dtype = "bfloat16"
    config.data.epochs = 10
    trained = arrays_of(nnx.state(train(config, [cache], tmp_path).decoder))
    before = arrays_of(nnx.state(load_model(str(model_directory), make_mesh({})).decoder))
    assert trained.keys() == before.keys()
    moved = {name for name in before if np.abs(trained[name] - before[name]).max() > 0.05}
    assert moved == {name for name in before if "proj" in name}
    assert {array.dtype for name, array in trained.items() if name in moved} == {
        np.dtype("float32")
    }
    lines = lines_of(tmp_path)
    assert lines[-1]["train/ce_nats"] < 0.8 * lines[0]["train/ce_nats"]


def test_parameters_that_were_cast_are_not_kept_twice(config, cache, tmp_path, monkeypatch):
    config.lora.update(rank=2)
    config.student.param_dtype = "bfloat16"
    config.data.epochs = 1
    tables = []

    def count():
        gc.collect()
        tables.append([str(a.dtype) for a in jax.live_arrays() if a.shape == (512, 48)])

    before_batch(monkeypatch, 2, count)
    train(config, [cache], tmp_path)
    assert tables == [["bfloat16"]]


def test_a_mixture_weighs_its_caches_and_kinds(config, cache, tmp_path, model_directory):
    """The same cache twice, once at weight 0 and all but one kind at 0: what is left is learnt."""
    config.data.update(epochs=1, global_batch_size=4)
    config.data.kind_weights = ConfigDict({"polarity": 0.0, "rewrite": 0.0}, convert_dict=False)
    train(config, [CacheSource(cache, 1.0), CacheSource(cache, 0.0)], tmp_path)
    (line,) = lines_of(tmp_path)
    assert line["train/completion_tokens"] == 32
    # Half of the tokens of that kind have weight 1: 8 of the 16, two of its four sequences.
    kind = 0.5 * (line["train/emotion/ce_nats"] + line["train/emotion/divergence_nats"])
    assert line["train/loss"] == pytest.approx(kind * 8 / 32, rel=1e-5)


def test_speed_is_reported_and_steps_are_traced(config, cache, tmp_path):
    config.profile_steps = (2, 3)
    train(config, [cache], tmp_path)
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    seconds = last["speed/seconds_per_step"]
    assert last["speed/tokens_per_second"] == pytest.approx(16 / seconds)
    assert 0 < last["speed/model_flops_utilisation"] < 1
    assert len(list((tmp_path / "profile").rglob("*.xplane.pb"))) == 1


class TestNonFiniteLoss:
    @pytest.mark.parametrize(("interval", "last", "text"), [(1, 1, "step 1"), (100, None, "none")])
    def test_stops_and_keeps_the_last_good_checkpoint(
        self, config, cache, tmp_path, interval, last, text
    ):
        config.optimizer.learning_rate = 1e30  # the first update ruins the parameters
        config.checkpoint.interval = interval
        message = f"step 2: loss .*; the last good checkpoint is {text}; lower optimizer.learn"
        with pytest.raises(NonFiniteLossError, match=message):
            train(config, [cache], tmp_path)
        assert latest(tmp_path) == last
        assert [line["step"] for line in lines_of(tmp_path)] == [1]


@pytest.mark.parametrize(
    ("section", "changes", "error", "message"),
    [
        ("data", {"global_batch_size": 3, "micro_batches": 2}, ValueError, "multiple of 2.*try 4"),
        ("data", {"seq_length": 7}, ValueError, "fits into seq_length=7 .* has 8 tokens"),
        ("data", {"scored_length": 3}, ValueError, "scored_length=3: .* fewest scored are 4"),
        ("optimizer", {"name": "sgdd"}, ValueError, "optimizer.name='sgdd' must be one of"),
        ("optimizer", {"schedule": "steps"}, ValueError, "schedule='steps' must be one of"),
        (
            "optimizer",
            {"warmup_fraction": 1.0},
            ValueError,
            "warmup_steps=6 .* than the 6 steps.*lower",
        ),
        ("optimizer", {"ema_decay": 1.0}, ValueError, r"ema_decay=1.0 must be in \[0, 1\)"),
        ("optimizer", {"momentum_dtype": "int8"}, ValueError, "optimizer.momentum_dtype='int8'"),
        ("optimizer", {"schedule": "wsd", "decay_fraction": 0.0}, ValueError, "decay_steps=0"),
        ("lora", {"rank": 2, "targets": ("head",)}, ValueError, r"targets=\('head',\); expected"),
        ("objective", {"divergence": "kl"}, ValueError, "objective.divergence='kl'"),
        (
            "objective",
            {"divergence": "reverse_kl", "renormalize_top_k": True},
            ValueError,
            "'reverse_kl' is infinite",
        ),
        ("objective", {"temperature": 3.0}, CacheMismatchError, "temperature.*expected 3.0"),
        ("student", {"dtype": "int8"}, ValueError, "student.dtype='int8' must be"),
        ("student", {"param_dtype": "float16"}, ValueError, "student.param_dtype='float16' must"),
        ("student", {"remat": "some"}, ValueError, "remat='some' must be one of"),
        ("student", {"layers": (0, 2)}, ValueError, r"student.layers=\(0, 2\) .* 0 to 1"),
        ("student", {"source": "nowhere"}, FileNotFoundError, "'nowhere'"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    config, cache, tmp_path, section, changes, error, message
):
    config[section].update(**changes)
    workdir = tmp_path / "run"
    with pytest.raises(error, match=message):
        train(config, [cache], workdir, on_start=lambda: workdir.mkdir())
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tokenizer_fingerprint", "other"),
        ("chat_template_fingerprint", "other"),
        ("vocab_size", TINY.vocab_size + 1),
        ("schema_version", 0),
        ("corpus_fingerprint", "other"),
        ("config", {"teacher": {"source": "other"}}),
    ],
)
def test_a_cache_of_something_else_is_refused_by_name_before_anything_is_written(
    config, tmp_path, model_directory, field, value
):
    made_from = {**fingerprints(model_directory), field: value}
    other = random_cache(tmp_path / "other", [(5, 3)], **made_from)
    name = "config.teacher.source" if field == "config" else field
    expect = {"corpus_fingerprint": "corpus", "config.teacher.source": "mine"}
    with pytest.raises(CacheMismatchError, match=f"{name}: got .*, expected "):
        train(config, [CacheSource(other, expect=expect)], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_all_that_differs_and_a_missing_shard_are_named_at_once(config, tmp_path):
    other = random_cache(tmp_path / "other", [(5, 3)] * 4)
    (other / "shard-00001-of-00002").unlink()
    with pytest.raises(CacheMismatchError) as error:
        train(config, [other], tmp_path / "run")
    for text in ("tokenizer_fingerprint: ", "chat_template_fingerprint: ", "00002 is missing"):
        assert text in str(error.value)
