"""Weights and operations against the decoder itself, the compiler's count, and counts by hand."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from goldens import GOLDEN, NAMES, decoder_of
from helpers import TINY, random_decoder
from safetensors.numpy import load_file

from sentidistill_jax.models import flops
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.families import FAMILIES
from sentidistill_jax.models.flops import num_parameters, train_step_flops
from sentidistill_jax.models.hf import abstract_decoder, weight_files
from sentidistill_jax.models.presets import PRESETS
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.training.trainable import Lora, take_apart

SIZES = {"rows": 3, "seq_length": 10, "scored_length": 4}
# Multiplications per position of TINY: two layers of q, k, v, o and three products of the MLP.
LAYERS = 2 * (48 * 64 + 2 * 48 * 32 + 64 * 48 + 3 * 48 * 80)
HEAD = 512 * 48  # per scored position
ATTENTION = 2 * 2 * 64 * 55  # two layers, two products, four heads of 16, 55 visible pairs


def one_device():
    return make_mesh({}, jax.devices()[:1])


def train_flops(**options):
    parts = take_apart(random_decoder(one_device()), one_device(), **options)
    return train_step_flops(TINY, parts.params, **SIZES)


def test_every_family_has_a_preset():
    assert {config.family for config in PRESETS.values()} == set(FAMILIES.values())


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_weights_are_those_of_the_decoder(config):
    flat = nnx.to_flat_state(nnx.state(abstract_decoder(config)))
    assert num_parameters(config) == sum(v.get_value().size for _, v in flat)
    matrices = [
        variable.get_value().size
        for path, variable in flat
        if path[0] == "layers" and "embed" in variable.get_metadata()["axes"]
    ]
    assert flops.layer_weights(config) * config.num_layers == sum(matrices)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_those_of_the_files(name):
    tensors = [load_file(file).values() for file in weight_files(GOLDEN / name)]
    total = sum(tensor.size for values in tensors for tensor in values)
    assert num_parameters(decoder_of(name, one_device()).config) == total


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("llama-3.2-1b", 1235.8), ("llama-3.2-3b", 3212.7), ("llama-3.1-8b", 8030.3),
        ("llama-3.1-70b", 70_553.7), ("qwen2.5-0.5b", 494.0), ("qwen2.5-1.5b", 1543.7),
        ("qwen2.5-72b", 72_706.2), ("qwen3-0.6b", 596.0), ("qwen3-1.7b", 1720.6),
        ("qwen3-4b", 4022.5), ("gemma-3-270m", 268.1), ("gemma-3-1b", 999.9),
        ("smollm2-135m", 134.5), ("smollm2-360m", 361.8), ("smollm2-1.7b", 1711.4),
    ],
)  # fmt: skip
def test_presets_are_as_large_as_the_published_models(name, millions):
    assert num_parameters(PRESETS[name]) / 1e6 == pytest.approx(millions, abs=0.05)


def test_a_forward_pass_by_hand():
    assert flops.forward_flops(TINY, **SIZES) == 2 * 3 * (LAYERS * 10 + HEAD * 4 + ATTENTION)
    assert flops.visible_pairs(10) == len([(q, k) for q in range(10) for k in range(q + 1)])


@pytest.mark.parametrize(
    "name", ["tiny", "tiny-llama3", "tiny-qwen2.5", "tiny-qwen3", "tiny-gemma2", "tiny-gemma3"]
)
def test_a_forward_pass_is_what_the_compiler_counts(name):
    """Of one layer, since XLA counts the body of a loop once; its attention computes all pairs."""
    config = PRESETS[name]
    config = dataclasses.replace(config, num_layers=1, sliding_layers=config.sliding_layers[:1])
    decoder = Decoder(config, nnx.Rngs(0), attention="xla")

    def forward(tokens):
        return decoder.logits(decoder(tokens, tokens)[0])

    tokens = jnp.zeros((3, 10), jnp.int32)
    cost: Any = jax.jit(forward).lower(tokens).compile().cost_analysis()
    hidden_pairs = 3 * (10**2 - flops.visible_pairs(10))
    expected = flops.forward_flops(config, rows=3, seq_length=10, scored_length=10)
    expected += flops.attention_flops(config, hidden_pairs)
    assert expected < cost["flops"] < 1.2 * expected  # XLA counts element-wise work as well


def test_full_training_takes_three_times_the_forward_pass():
    assert train_flops() == 3 * flops.forward_flops(TINY, **SIZES)


def test_frozen_weights_have_no_gradient():
    expected = 2 * 3 * (3 * LAYERS * 10 + 2 * HEAD * 4 + 3 * ATTENTION)
    assert train_flops(frozen=("embedding", "norm")) == expected


def test_adapters_count_as_the_thin_weights_they_are():
    thin = 2 * (48 * 2 + 2 * 80)
    expected = 2 * 3 * (2 * LAYERS * 10 + thin * 10 + 2 * HEAD * 4 + 3 * ATTENTION)
    assert train_flops(adapters=Lora(2, 1.0, ("up_proj",))) == expected


def test_embeddings_of_untied_models_are_no_head():
    params = nnx.State({"embedding": nnx.Param(jnp.zeros((512, 48)), axes=("vocab", "embed"))})
    untied = dataclasses.replace(TINY, tie_embeddings=False)
    tied, not_tied = (train_step_flops(one, params, **SIZES) for one in (TINY, untied))
    assert tied - not_tied == 2 * 3 * HEAD * 4
