"""Results and placements on meshes of eight devices."""

import jax
import numpy as np
import pytest
from flax import nnx
from goldens import decoder_of, golden, logits_and_gradients

from sentidistill_jax.models.hf import hf_tensors
from sentidistill_jax.sharding import constrain, make_mesh


def _results(name, mesh):
    tokens = np.concatenate([golden(name)["tokens"], golden(name)["tokens"][:, ::-1]])
    logits, loss, gradients = logits_and_gradients(decoder_of(name, mesh), tokens, mesh)
    return {"logits": logits, "loss": loss, **dict(hf_tensors(gradients))}


@pytest.fixture(scope="module")
def on_one_device():
    mesh = make_mesh({}, jax.devices()[:1])
    return {name: _results(name, mesh) for name in ("llama_tied", "llama_untied")}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("llama_tied", {"fsdp": 2, "tensor": 4}),
        ("llama_tied", {"data": 2, "fsdp": 2, "tensor": 2}),
        # 3 kv heads and 101 tokens, neither of which two devices share evenly.
        ("llama_untied", {"data": 2, "fsdp": 2, "tensor": 2}),
    ],
)
def test_a_mesh_changes_neither_logits_nor_gradients(name, shape, on_one_device):
    for key, value in _results(name, make_mesh(shape)).items():
        np.testing.assert_allclose(value, on_one_device[name][key], atol=1e-5, err_msg=key)


def _shard_shapes(model):
    flat = nnx.to_flat_state(nnx.state(model))
    return {path[-1]: v.get_value().addressable_shards[0].data.shape for path, v in flat}


def test_parameters_are_split_over_fsdp_and_tensor_where_they_divide():
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    shapes = _shard_shapes(decoder_of("llama_tied", mesh))
    assert shapes["embedding"] == (96 // 2, 32 // 2)
    assert shapes["q_proj"] == (2, 32 // 2, 4 // 2, 12)
    assert shapes["o_proj"] == (2, 4 // 2, 12, 32 // 2)
    assert shapes["down_proj"] == (2, 56 // 2, 32 // 2)
    shapes = _shard_shapes(decoder_of("llama_untied", mesh))
    assert shapes["k_proj"] == (3, 24 // 2, 3, 8)
    assert shapes["lm_head"] == (101, 24 // 2)


def test_activations_are_split_where_they_divide():
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    with jax.set_mesh(mesh):
        place = jax.jit(lambda x: constrain(x, ("batch", "kv_heads")))
        assert place(np.zeros((8, 6))).addressable_shards[0].data.shape == (2, 3)
        assert place(np.zeros((1, 3))).addressable_shards[0].data.shape == (1, 3)
    outside = np.zeros((1, 3))
    assert constrain(outside, ("batch", "kv_heads")) is outside  # type: ignore[arg-type]
