"""The mesh and its tables: sizes by name, slices, and an axis that is added from outside."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import TINY, random_decoder
from jax.sharding import PartitionSpec

from sentidistill_jax import sharding
from sentidistill_jax.models.hf import abstract_decoder
from sentidistill_jax.sharding import (
    LOGICAL_AXES,
    MESH_AXES,
    batch_part,
    batch_sharding,
    constrain,
    data_parallel_degree,
    make_mesh,
    mesh_axes_of,
    mesh_sizes,
    partition_spec,
)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({"data": -1, "tensor": 2}, {"data": 4, "fsdp": 1, "tensor": 2}),
        ({"fsdp": 8}, {"data": 1, "fsdp": 8, "tensor": 1}),
        ({"tensor": 2, "fsdp": 2, "data": 2}, {"data": 2, "fsdp": 2, "tensor": 2}),
    ],
)
def test_sizes_are_by_name_in_the_order_of_the_table(shape, expected):
    assert list(mesh_sizes(shape, 8).items()) == list(expected.items())
    assert list(make_mesh(shape).shape.items()) == list(expected.items())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"model": 8}, r"unknown axes \['model'\]; expected \['data', 'fsdp', 'tensor'\]"),
        ({"data": 3}, r"needs 3 devices .* got 8"),
        ({"data": -1, "tensor": 3}, r"needs 3 devices \(or a multiple"),
        ({"data": -1, "fsdp": -1}, r"at most one -1"),
        ({"data": 0}, r"positive sizes"),
        ({"data": -2}, r"positive sizes"),
    ],
)
def test_impossible_meshes_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        make_mesh(shape)


@pytest.mark.parametrize(
    ("shape", "suggestion"),
    [
        ({"data": -1, "tensor": 3}, "data=-1, fsdp=1, tensor=2"),
        ({"data": 3, "fsdp": 4}, "data=-1, fsdp=4, tensor=1"),
        ({"fsdp": 16}, "data=-1, fsdp=8, tensor=1"),
    ],
)
def test_an_impossible_mesh_comes_with_one_that_fits(shape, suggestion):
    with pytest.raises(ValueError, match=re.escape(suggestion)):
        make_mesh(shape, jax.devices())
    words = dict(word.split("=") for word in suggestion.split(", "))
    assert make_mesh({axis: int(n) for axis, n in words.items()}, jax.devices()).size == 8


def test_every_axis_that_is_split_is_a_logical_axis():
    split = [axis for axes in MESH_AXES.values() for axis in axes]
    assert set(split) <= set(LOGICAL_AXES)
    with pytest.raises(KeyError, match="logical axis 'sequence' must be one of"):
        mesh_axes_of("sequence")


@pytest.mark.parametrize(
    ("axes", "spec"),
    [
        (("batch", "seq", "activation_embed"), PartitionSpec(("data", "fsdp"), None, None)),
        (("layers", "embed", "heads", "head_dim"), PartitionSpec(None, "fsdp", "tensor", None)),
        (("vocab", "embed"), PartitionSpec("tensor", "fsdp")),
        ((None, "mlp"), PartitionSpec(None, "tensor")),
    ],
)
def test_logical_axes_become_mesh_axes(axes, spec):
    assert partition_spec(axes) == spec


@pytest.mark.parametrize(
    ("shape", "degree"), [({"data": -1}, 8), ({"data": 2, "fsdp": 2, "tensor": 2}, 4), ({}, 1)]
)
def test_a_batch_is_split_over_data_and_fsdp(shape, degree):
    mesh = make_mesh(shape, jax.devices()[: 8 if shape else 1])
    assert data_parallel_degree(mesh) == data_parallel_degree(mesh.shape) == degree
    rows = jax.device_put(np.zeros((8, 3)), batch_sharding(mesh))
    assert rows.addressable_shards[0].data.shape == (8 // degree, 3)


def test_one_process_reads_whole_batches():
    assert batch_part(make_mesh({"data": -1}, jax.devices())) == (0, 1)


@dataclasses.dataclass(frozen=True)
class Device:
    """What a mesh asks of a device."""

    id: int
    slice_index: int
    process_index: int = 0
    platform: str = "cpu"
    device_kind: str = "cpu"


def test_slices_are_crossed_by_data_alone():
    devices = [Device(number, number // 4) for number in range(8)]
    mesh = make_mesh({"data": -1, "fsdp": 2}, devices)
    assert dict(mesh.shape) == {"data": 4, "fsdp": 2, "tensor": 1}
    of_slices = np.vectorize(lambda device: device.slice_index)(mesh.devices)
    assert of_slices[:, :, 0].tolist() == [[0, 0], [0, 0], [1, 1], [1, 1]]
    message = "mesh={'fsdp': 8} has data=1, expected a multiple of the 2 slices"
    with pytest.raises(ValueError, match=re.escape(message)):
        make_mesh({"fsdp": 8}, devices)


@pytest.fixture
def context_axis(monkeypatch):
    """A fourth axis that splits the positions of a row."""
    monkeypatch.setitem(sharding.MESH_AXES, "context", ("seq",))


def test_another_axis_is_one_entry(context_axis):
    shape = {"data": 2, "context": 2, "tensor": 2}
    mesh = make_mesh(shape)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 1, "tensor": 2, "context": 2}
    assert data_parallel_degree(mesh) == 2
    with jax.set_mesh(mesh):
        placed = jax.jit(lambda x: constrain(x, ("batch", "seq", "mlp")))(np.zeros((4, 6, 8)))
    assert placed.addressable_shards[0].data.shape == (2, 3, 4)
    with pytest.raises(ValueError, match="data=-1, fsdp=1, tensor=1, context=2"):
        make_mesh({"context": 3, "data": -1})


def test_a_decoder_computes_the_same_over_another_axis(context_axis):
    tokens = np.random.default_rng(0).integers(0, TINY.vocab_size, (4, 16), np.int32)
    positions = jnp.tile(jnp.arange(16), (4, 1))

    def logits(mesh):
        decoder = random_decoder(mesh)
        with jax.set_mesh(mesh):
            run = jax.jit(lambda tokens: decoder.logits(decoder(tokens, positions)[0]))
            return np.asarray(run(tokens))

    over_context = logits(make_mesh({"data": 2, "context": 2, "tensor": 2}))
    np.testing.assert_allclose(over_context, logits(make_mesh({}, jax.devices()[:1])), atol=1e-5)


def test_dims_that_stay_whole_are_named_with_what_would_split_them():
    config = dataclasses.replace(
        TINY, num_heads=9, num_kv_heads=3, vocab_size=2274, embed_dim=64, mlp_dim=192
    )
    state = nnx.state(abstract_decoder(config, dtype="float32"))
    assert sharding.undivided(state, mesh_sizes({"fsdp": 2, "tensor": 3}, 6)) == []
    assert sharding.undivided(state, mesh_sizes({"fsdp": 3, "tensor": 4}, 12)) == [
        "mesh.fsdp=3 does not divide embed=64, so every device holds all of it; try mesh.fsdp=2.",
        "mesh.tensor=4 does not divide heads=9, so every device holds all of it; try"
        " mesh.tensor=3.",
        "mesh.tensor=4 does not divide kv_heads=3, so every device holds all of it; try"
        " mesh.tensor=3.",
        "mesh.tensor=4 does not divide vocab=2274, so every device holds all of it; try"
        " mesh.tensor=3 or student.vocabulary_size=2276.",
    ]
