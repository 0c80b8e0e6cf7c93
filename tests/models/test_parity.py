"""The decoder against transformers and torch, from stored goldens."""

import jax
import numpy as np
import pytest
from goldens import NAMES, decoder_of, golden, logits_and_gradients

from sentidistill_jax.inference.engine import Engine, GenerateRequest
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.models.hf import hf_tensors
from sentidistill_jax.sharding import make_mesh


@pytest.mark.parametrize("name", NAMES)
def test_logits_loss_and_gradients_are_those_of_transformers(name):
    mesh = make_mesh({}, jax.devices()[:1])
    expected = golden(name)
    logits, loss, gradients = logits_and_gradients(decoder_of(name, mesh), expected["tokens"], mesh)
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)
    np.testing.assert_allclose(loss, expected["loss"], atol=1e-5)
    by_name = dict(hf_tensors(gradients))
    compared = [key.removeprefix("gradient/") for key in expected if key.startswith("gradient/")]
    assert len(compared) >= 7
    if name.startswith("qwen2"):
        assert "model.layers.1.self_attn.v_proj.bias" in compared
    if name in ("qwen3", "gemma3"):
        assert "model.layers.0.self_attn.q_norm.weight" in compared
    for tensor in compared:
        np.testing.assert_allclose(
            by_name[tensor], expected[f"gradient/{tensor}"], atol=1e-5, err_msg=tensor
        )


@pytest.mark.parametrize("name", NAMES)
def test_greedy_generation_is_that_of_transformers(name):
    mesh = make_mesh({}, jax.devices()[:1])
    engine = Engine(decoder_of(name, mesh), mesh, pad_id=0)
    expected = golden(name)
    requests = [GenerateRequest(tokens) for tokens in expected["tokens"]]
    sampling = SamplingConfig(max_new_tokens=expected["greedy"].shape[1])
    generated = dict(engine.generate(requests, sampling, stop_ids=[]))
    for row, greedy in enumerate(expected["greedy"]):
        np.testing.assert_array_equal(generated[row].tokens, greedy)
