"""One update against a dense, unpacked, unsharded account of the same sequences."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import KINDS, arrays_of, assert_trees_close, random_cache, random_decoder

from sentidistill_jax.data.loader import BatchShape, PackedBatches, iterate
from sentidistill_jax.data.teacher_cache import open_cache
from sentidistill_jax.sharding import MESH_AXES, make_mesh
from sentidistill_jax.training.objectives import CachedObjective
from sentidistill_jax.training.train_step import TrainState, init_state, train_step
from sentidistill_jax.training.trainable import Lora, take_apart

# No two of them fit into 16 tokens, so rows of 16 hold one each.
SIZES = [(5, 4), (7, 5), (12, 4), (8, 6), (10, 1), (9, 7), (6, 3), (11, 4)]
UNPACKED, PACKED = (8, 16, 7), (4, 48, 20)  # rows, tokens, scored positions
OBJECTIVE = CachedObjective(name="icldist", alpha=0.4, temperature=2.0, label_weight=0.7)

# Keeps the gradient as its state and changes nothing.
KEEP_GRADIENT = optax.GradientTransformation(
    lambda params: params,
    lambda updates, state, params=None: (jax.tree.map(jnp.zeros_like, updates), updates),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return open_cache(random_cache(tmp_path_factory.mktemp("step") / "cache", SIZES))


@dataclasses.dataclass
class Outcome:
    loss: float
    metrics: dict[str, Any]
    gradient: dict[str, np.ndarray]
    state: TrainState


def step(
    cache,
    *,
    shape=UNPACKED,
    mesh_shape=(1, 1, 1),
    micro_batches=1,
    frozen=(),
    adapters=None,
) -> Outcome:
    """One update on all sequences of the cache."""
    devices = jax.devices()[: math.prod(mesh_shape)]
    mesh = make_mesh(dict(zip(MESH_AXES, mesh_shape, strict=True)), devices)
    parts = take_apart(random_decoder(mesh), mesh, frozen=frozen, adapters=adapters)
    batches = PackedBatches(
        [cache], BatchShape(*shape), epochs=1, seed=0, temperatures=OBJECTIVE.temperatures,
        calibrate_answers=False,
    )  # fmt: skip
    assert len(batches) == 1
    (batch,) = iterate(batches, mesh, start_step=0)
    with jax.set_mesh(mesh):
        state = init_state(parts.params, parts.frozen, KEEP_GRADIENT, mesh)
        run = jax.jit(
            functools.partial(
                train_step,
                assemble=parts.assemble,
                optimizer=KEEP_GRADIENT,
                objective=OBJECTIVE,
                num_kinds=len(KINDS),
                total_steps=10,
                micro_batches=micro_batches,
                mesh=mesh if mesh.size > 1 else None,
            )
        )
        state, metrics = run(state, batch)
    gradient = arrays_of(state.optimizer_state)
    metrics = jax.device_get(metrics)
    return Outcome(float(metrics["loss"]), metrics, gradient, state)


@pytest.fixture(scope="module")
def plain(cache):
    """One row per sequence, one device, all at once."""
    return step(cache)


def flat(metrics) -> dict[str, np.ndarray]:
    """Path -> array."""
    return {jax.tree_util.keystr(path): x for path, x in jax.tree.leaves_with_path(metrics)}


def assert_same(got: Outcome, expected: Outcome, tolerance=1e-5):
    assert got.loss == pytest.approx(expected.loss, rel=tolerance)
    assert_trees_close(flat(got.metrics), flat(expected.metrics), tolerance)
    assert_trees_close(got.gradient, expected.gradient, tolerance)


def test_packed_equals_unpacked(cache, plain):
    assert_same(step(cache, shape=PACKED), plain)


def test_four_micro_batches_equal_one(cache, plain):
    assert_same(step(cache, micro_batches=4), plain)


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_eight_devices_equal_one(cache, plain, micro_batches):
    got = step(cache, mesh_shape=(2, 2, 2), micro_batches=micro_batches)
    placements = {str(leaf.sharding.spec) for leaf in jax.tree.leaves(got.state.params)}
    assert any("fsdp" in spec for spec in placements) and any("tensor" in s for s in placements)
    assert_same(got, plain)


def test_frozen_parameters_have_no_gradient_and_the_others_theirs(cache, plain):
    frozen = ("embedding", r"layers\.mlp\.")
    got = step(cache, frozen=frozen)
    assert set(plain.gradient) - set(got.gradient) == {
        "embedding", "layers.mlp.down_proj", "layers.mlp.gate_proj", "layers.mlp.up_proj",
    }  # fmt: skip
    assert_trees_close(
        got.gradient, {name: plain.gradient[name] for name in got.gradient}, tolerance=1e-5
    )
    assert arrays_of(got.state.frozen).keys() == plain.gradient.keys() - got.gradient.keys()
    assert int(got.state.step) == 1


def test_adapters_alone_have_gradients_on_any_mesh(cache):
    adapters = Lora(3, 1.0, ("q_proj", "o_proj", "down_proj"))
    plain = step(cache, adapters=adapters)
    assert {name.rsplit(".", 1)[1] for name in plain.gradient} == {"down", "up"}
    # `up` begins at zero, so only it moves at first.
    assert all(np.abs(g).max() > 0 for name, g in plain.gradient.items() if name.endswith("up"))
    got = step(cache, adapters=adapters, mesh_shape=(2, 2, 2), micro_batches=2)
    assert_same(got, plain)


def test_the_state_of_the_optimizer_lies_where_its_parameters_lie():
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    parts = take_apart(random_decoder(mesh), mesh)
    state = init_state(parts.params, parts.frozen, optax.adamw(0.1), mesh, average=True)
    placements = jax.tree.map(lambda leaf: leaf.sharding, parts.params)
    for tree in (*optax.tree.get_all_with_path(state.optimizer_state, "mu"), ("", state.average)):
        assert jax.tree.map(lambda leaf: leaf.sharding, tree[1]) == placements
    assert state.step.sharding.is_fully_replicated


def test_the_average_follows_the_parameters(cache):
    """With a decay of 1/10 in the first step, then the one asked for."""
    mesh = make_mesh({}, jax.devices()[:1])
    parts = take_apart(random_decoder(mesh), mesh)
    optimizer = optax.sgd(0.1)
    batches = PackedBatches([cache], BatchShape(*UNPACKED), epochs=3, seed=0)
    state = init_state(parts.params, parts.frozen, optimizer, mesh, average=True)
    run = jax.jit(
        functools.partial(
            train_step,
            assemble=parts.assemble,
            optimizer=optimizer,
            objective=CachedObjective(),
            num_kinds=len(KINDS),
            total_steps=3,
            ema_decay=0.15,
        )
    )
    expected = arrays_of(state.params)
    for batch, decay in zip(iterate(batches, mesh, start_step=0), (0.1, 0.15, 0.15), strict=True):
        state, _ = run(state, batch)
        params = arrays_of(state.params)
        expected = {name: decay * expected[name] + (1 - decay) * params[name] for name in expected}
    assert_trees_close(arrays_of(state.average), expected, 1e-6)
    assert np.abs(expected["embedding"] - params["embedding"]).max() > 1e-5
