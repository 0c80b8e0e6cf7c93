"""Every recipe of docs/extend.md, executed as it stands there and then used for what it is for."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from flax import nnx
from helpers import TINY, byte_tokenizer, random_decoder, random_model
from training.tiny_run import tiny_config, train, write_cache, write_model

from launch.backends import BACKENDS
from sentidistill_jax.cli.verbs.train import VERB
from sentidistill_jax.corpus import icldist, knowdist
from sentidistill_jax.corpus.build import build_icldist, build_knowdist
from sentidistill_jax.corpus.icldist import TASKS
from sentidistill_jax.corpus.perspectives import PERSPECTIVES
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.evaluation.benchmarks import BENCHMARKS, SENTIBENCH
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.families import FAMILIES
from sentidistill_jax.models.hf import (
    hf_tensors,
    load_decoder,
    read_hf_directory,
    write_hf_directory,
)
from sentidistill_jax.reporting.runs import find_task
from sentidistill_jax.sharding import MESH_AXES, constrain, data_parallel_degree, make_mesh
from sentidistill_jax.training.losses import DIVERGENCES
from sentidistill_jax.training.objectives import OBJECTIVES, CachedObjective, make_objective
from sentidistill_jax.training.optimizer import OPTIMIZERS, make_optimizer

ROOT = pathlib.Path(__file__).parents[1]
REGISTRIES: tuple[dict[str, Any], ...] = (
    DIVERGENCES, OBJECTIVES, OPTIMIZERS, PERSPECTIVES, TASKS, BENCHMARKS, FAMILIES, MESH_AXES,
    BACKENDS,
)  # fmt: skip
EXTEND = (ROOT / "docs" / "extend.md").read_text()
# Heading -> the block below it.
RECIPES = dict(
    re.findall(r"^## ([^\n]+)\n[^#]*?^```python\n(.*?)^```", EXTEND, re.MULTILINE | re.DOTALL)
)
TEXT = UnlabelledText("t1", "movie", "A gem.")
PATH = {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def follow(tmp_path):
    """Writes the block of a recipe into a file and executes it; what it added is taken away."""
    before = [dict(registry) for registry in REGISTRIES]

    def execute(heading: str) -> ModuleType:
        path = tmp_path / f"{heading.split()[-1].lower()}_recipe.py"
        path.write_text(RECIPES[heading])
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield execute
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(entries)


def test_every_recipe_is_followed_here():
    """Each heading with a block has a test below, which names it."""
    assert EXTEND.count("```python") == len(RECIPES) == len(REGISTRIES)
    source = pathlib.Path(__file__).read_text()
    assert [name for name in RECIPES if f'follow("{name}")' not in source] == []


@pytest.mark.usefixtures("follow")
def test_a_config_file_may_hold_a_block_and_ask_for_what_it_adds(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["sentidistill"])
    (example,) = re.findall(r"^```\n(from configs.*?)^```", EXTEND, re.MULTILINE | re.DOTALL)
    config = tmp_path / "mine.py"
    config.write_text(RECIPES["A divergence"] + "\n\n" + example)
    values = flags.FlagValues()
    VERB.define_flags(values)
    values(["sentidistill", f"--config={config}"])
    assert "skew_jeffreys" in DIVERGENCES
    objective = make_objective(values.config.objective.to_dict())
    assert isinstance(objective, CachedObjective) and objective.divergence == "skew_jeffreys"


def first_metrics(tmp_path: pathlib.Path, **sections: dict) -> dict[str, float]:
    """Those of the first training step of a tiny model under a config with these fields."""
    model = write_model(tmp_path / "model")
    config = tiny_config(model)
    with config.unlocked():
        for section, fields in sections.items():
            config[section].update(fields)
    config.data.update(global_batch_size=2, epochs=2)  # all four sequences in each of two steps
    train(config, [write_cache(tmp_path / "cache", model)], tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    first, last = map(json.loads, lines)
    assert last["train/loss"] < first["train/loss"]
    return first


@pytest.mark.usefixtures("one_device")
class TestTraining:
    def test_a_divergence(self, follow, tmp_path):
        divergence = follow("A divergence").skew_jeffreys
        logprobs = jax.nn.log_softmax(jnp.array([[0.0, 1.0, 2.0], [2.0, 0.0, -1e30]]))
        np.testing.assert_allclose(divergence(logprobs, logprobs), 0, atol=1e-6)
        one, other = divergence(logprobs, logprobs[::-1])
        assert 0 < one < -np.log(0.1) and one == pytest.approx(float(other))
        objective = {"divergence": "skew_jeffreys", "alpha": 1.0, "label_weight": 0.0}
        metrics = first_metrics(tmp_path, objective=objective)
        assert metrics["train/loss"] == pytest.approx(metrics["train/divergence_nats"], rel=1e-5)

    def test_an_objective(self, follow, tmp_path):
        follow("An objective")
        teacher = str(write_model(tmp_path / "teacher", seed=1))
        live = {"name": "live", "teacher": teacher}
        metrics = first_metrics(tmp_path / "full", objective=live)
        assert metrics["train/loss"] == pytest.approx(metrics["train/live_kl_nats"], rel=1e-5)
        assert metrics["train/loss"] > 0.1 and "train/polarity/live_kl_nats" in metrics
        padded = first_metrics(tmp_path / "padded", objective=live, data={"scored_length": 12})
        assert padded["train/loss"] == pytest.approx(metrics["train/loss"], rel=1e-5)

    def test_an_optimizer(self, follow, tmp_path):
        follow("An optimizer")
        first_metrics(tmp_path, optimizer={"name": "nadamw"})
        params: Any = {"weight": jnp.full(3, 2.0), "scale": jnp.full(3, 2.0)}
        rule = make_optimizer("nadamw", lambda step: 0.1, weight_decay=0.5, clip_norm=1.0)
        gradients = jax.tree.map(jnp.zeros_like, params)
        updates: Any = rule.update(gradients, rule.init(params), params)[0]
        np.testing.assert_allclose(updates["weight"], -0.1 * 0.5 * 2, rtol=1e-5)
        np.testing.assert_array_equal(updates["scale"], 0)


def test_a_perspective(follow):
    follow("A KnowDist perspective")
    (prompt,) = build_knowdist(
        [TEXT], seed=0, perspectives={"analyse/advice": 1.0}, verdicts={TEXT.id: "positive"}
    )
    added = PERSPECTIVES["analyse/advice"]
    assert prompt == knowdist.build_prompt("analyse/advice", TEXT, prompt.wording, "positive")
    assert prompt.prompt == f"{added.wordings[prompt.wording]}\n\nText: A gem.\nAdvice:"
    assert prompt.teacher_prompt.endswith("Text: A gem.\nSentiment: positive\nAdvice:")
    assert "Sentiment: negative\nAdvice: Eat somewhere else," in prompt.teacher_prompt
    verdicts = [example.verdict for example in added.examples]
    assert verdicts.count("positive") == verdicts.count("negative") > 0


def test_a_task(follow):
    follow("An ICLDist task")
    shown = icldist.seed_demonstrations("politeness", 2)
    prompt = icldist.build_prompt("politeness", TEXT, shown)
    assert prompt.prompt.endswith("\n\nMessage: A gem.\nTone:")
    assert prompt.label_words == (" polite", " rude")
    assert {one.label for one in shown} == {"polite", "rude"}  # as evenly as can be
    drawn = build_icldist(
        [TEXT],
        seed=0,
        count=1,
        bare_fraction=0,
        tasks={"politeness": 1.0},
        labels={"politeness": {"t1": "polite"}},
    )
    assert [one.kind for one in drawn] == ["politeness"]


def test_a_benchmark(follow, tmp_path, monkeypatch):
    recipe = follow("A benchmark")
    monkeypatch.setenv("REVIEWS_DIR", str(tmp_path))
    for split, file in recipe.BOOKS.split_files.items():
        items = [
            {"sentence": f"{split} {number}", "label": recipe.BOOKS.labels[number % 2]}
            for number in range(recipe.BOOKS.split_sizes[split])
        ]
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(json.dumps(items))
    mesh = make_mesh({}, jax.devices()[:1])
    model = LocalModel.on_mesh(random_model(mesh, byte_tokenizer(["good", "bad"])), mesh)
    summary = recipe.summary(model)
    assert summary["complete"] and 0 < summary["average"] <= 1
    assert summary["categories"] == {"reviews": pytest.approx(summary["average"])}
    assert find_task(BENCHMARKS.values(), "reviews/books") == (recipe.REVIEWS, recipe.BOOKS)
    assert len(SENTIBENCH.tasks) == 12 and "books" not in SENTIBENCH.tasks
    assert SENTIBENCH.average(dict.fromkeys(SENTIBENCH.tasks, 0.6)) == pytest.approx(0.6)


def test_a_family(follow, tmp_path):
    follow("A model family")
    config = dataclasses.replace(
        TINY, family=FAMILIES["ministral"], sliding_window=4, sliding_layers=(True, False)
    )
    model = Decoder(config, nnx.Rngs(0))
    write_hf_directory(model, tmp_path)
    read_config, tensors = read_hf_directory(tmp_path)
    assert read_config == config
    read = load_decoder(read_config, tensors, make_mesh({}, jax.devices()[:1]))
    for (name, before), (_, after) in zip(hf_tensors(model), hf_tensors(read), strict=True):
        np.testing.assert_array_equal(after, before, err_msg=name)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["architectures"] == ["MinistralForCausalLM"]
    assert written["layer_types"] == ["sliding_attention", "full_attention"]


def test_a_mesh_axis(follow):
    follow("A mesh axis")
    tokens = np.random.default_rng(0).integers(0, TINY.vocab_size, (4, 16), np.int32)
    positions = jnp.tile(jnp.arange(16), (4, 1))

    def logits(mesh):
        decoder = random_decoder(mesh)
        with jax.set_mesh(mesh):
            run = jax.jit(lambda tokens: decoder.logits(decoder(tokens, positions)[0]))
            return np.asarray(run(tokens))

    mesh = make_mesh({"data": 2, "context": 2, "tensor": 2})
    assert dict(mesh.shape) == {"data": 2, "fsdp": 1, "tensor": 2, "context": 2}
    assert data_parallel_degree(mesh) == 2
    with jax.set_mesh(mesh):
        placed = jax.jit(lambda tokens: constrain(tokens, ("batch", "seq")))(tokens)
    assert placed.addressable_shards[0].data.shape == (2, 8)
    one_device = make_mesh({}, jax.devices()[:1])
    np.testing.assert_allclose(logits(mesh), logits(one_device), atol=1e-5)


def test_a_launch_backend(follow, tmp_path):
    follow("A launch backend")
    program = tmp_path / "backend_recipe.py"

    def launch(*arguments):
        command = [sys.executable, str(program), "--backend=docker", *arguments]
        command += ["--", "sentidistill", "train"]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | PATH
        )

    rendered = launch(
        "--topology=h100:8", "--image=image", "--env=A=b", "--storage=/data=/here", "--dry_run"
    )
    assert rendered.stdout == (
        "docker run --rm --gpus=8 --env=A=b --volume=/here:/data image sentidistill train\n"
    )
    refused = launch("--topology=2xh100:8", "--image=image", "--dry_run")
    assert refused.returncode == 2 and "backend=docker needs one node" in refused.stderr
    submitted = launch("--topology=h100:8", "--image=image", "--docker=echo")
    assert (submitted.returncode, submitted.stdout) == (
        0, "run --rm --gpus=8 image sentidistill train\n"
    )  # fmt: skip
