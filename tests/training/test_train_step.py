"""One update against a dense, unpacked, unsharded account of the same sequences."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers import KINDS, arrays_of, assert_trees_close, random_cache, random_decoder

from sentidistill_jax.data.loader import BatchShape, PackedBatches, iterate
from sentidistill_jax.data.teacher_cache import open_cache
from sentidistill_jax.sharding import MESH_AXES, make_mesh
from sentidistill_jax.training.objectives import Objective
from sentidistill_jax.training.optimizer import trainable_filter
from sentidistill_jax.training.train_step import TrainState, train_step

# No two of them fit into 16 tokens, so rows of 16 hold one each.
SIZES = [(5, 4), (7, 5), (12, 4), (8, 6), (10, 1), (9, 7), (6, 3), (11, 4)]
UNPACKED, PACKED = (8, 16, 7), (4, 48, 20)  # rows, tokens, scored positions
OBJECTIVE = Objective(alpha=0.4, temperature=2.0, label_weight=0.7)

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
    metrics: dict[str, np.ndarray]
    gradient: dict[str, np.ndarray]
    state: TrainState


def step(
    cache,
    *,
    shape=UNPACKED,
    mesh_shape=(1, 1, 1),
    micro_batches=1,
    frozen=(),
) -> Outcome:
    """One update on all sequences of the cache."""
    devices = jax.devices()[: math.prod(mesh_shape)]
    mesh = make_mesh(dict(zip(MESH_AXES, mesh_shape, strict=True)), devices)
    decoder = random_decoder(mesh)
    graphdef, params, rest = nnx.split(decoder, trainable_filter(frozen), ...)
    batches = PackedBatches(
        [cache], BatchShape(*shape), epochs=1, seed=0, temperature=OBJECTIVE.temperature,
        calibrate_answers=False,
    )  # fmt: skip
    assert len(batches) == 1
    (batch,) = iterate(batches, mesh, start_step=0)
    with jax.set_mesh(mesh):
        state = TrainState(jnp.zeros((), jnp.int32), params, rest, KEEP_GRADIENT.init(params))
        run = jax.jit(
            functools.partial(
                train_step,
                graphdef=graphdef,
                optimizer=KEEP_GRADIENT,
                objective=OBJECTIVE,
                num_kinds=len(KINDS),
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


def assert_same(got: Outcome, expected: Outcome, tolerance=1e-5):
    assert got.loss == pytest.approx(expected.loss, rel=tolerance)
    assert_trees_close(got.metrics, expected.metrics, tolerance)
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
