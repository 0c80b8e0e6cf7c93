"""Operations counted by hand, and what a loop reports of itself."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from helpers import TINY, random_decoder

from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.training import throughput
from sentidistill_jax.training.throughput import Speed, device_memory, peak_flops, step_flops
from sentidistill_jax.training.trainable import Lora, take_apart

SIZES = {"rows": 3, "seq_length": 10, "scored_length": 4}
# Multiplications per position of TINY: two layers of q, k, v, o and three products of the MLP.
LAYERS = 2 * (48 * 64 + 2 * 48 * 32 + 64 * 48 + 3 * 48 * 80)
HEAD = 512 * 48  # per scored position
ATTENTION = 2 * 2 * 64 * 55  # two layers, two products, four heads of 16, 55 visible pairs


def flops(**options):
    mesh = make_mesh({}, jax.devices()[:1])
    parts = take_apart(random_decoder(mesh), mesh, **options)
    return step_flops(TINY, parts.params, **SIZES)


def test_full_training_takes_three_times_the_forward_pass():
    assert flops() == 3 * 2 * 3 * (LAYERS * 10 + HEAD * 4 + ATTENTION)


def test_frozen_weights_have_no_gradient():
    expected = 2 * 3 * (3 * LAYERS * 10 + 2 * HEAD * 4 + 3 * ATTENTION)
    assert flops(frozen=("embedding", "norm")) == expected


def test_adapters_count_as_the_thin_weights_they_are():
    thin = 2 * (48 * 2 + 2 * 80)
    expected = 2 * 3 * (2 * LAYERS * 10 + thin * 10 + 2 * HEAD * 4 + 3 * ATTENTION)
    assert flops(adapters=Lora(2, 1.0, ("up_proj",))) == expected


def test_the_count_is_what_the_compiler_counts():
    """Without its while loops, which it counts once, and elementwise work: a single layer."""
    mesh = make_mesh({}, jax.devices()[:1])
    decoder = random_decoder(mesh)

    def forward(tokens):
        return decoder.logits(decoder(tokens, tokens)[0])

    tokens = jnp.zeros((3, 10), jnp.int32)
    cost: Any = jax.jit(forward).lower(tokens).compile().cost_analysis()
    products = 2 * 3 * (LAYERS / 2 * 10 + HEAD * 10 + 2 * 64 * 100)
    assert products < cost["flops"] < 1.2 * products


def test_speed_is_per_step(monkeypatch):
    clock = iter([100.0, 200.0, 204.0, 205.0])
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(clock))
    speed = Speed(flops_per_step=6e9, peak_flops=10e9)
    speed.start()
    assert speed.scalars(1000) == {
        "speed/seconds_per_step": 4.0,
        "speed/tokens_per_second": 250.0,
        "speed/model_flops_utilisation": pytest.approx(0.15),
    }
    assert speed.scalars(1000)["speed/seconds_per_step"] == 1.0


def test_the_peak_is_a_rate_of_this_machine():
    assert 1e7 < peak_flops(jnp.float32, size=64) < 1e15


def test_memory_is_left_out_where_devices_report_none():
    assert device_memory() == {}  # on a CPU


def test_embeddings_of_untied_models_are_no_head():
    params = nnx.State({"embedding": nnx.Param(jnp.zeros((512, 48)), axes=("vocab", "embed"))})
    untied = TINY.__class__(**{**TINY.__dict__, "tie_embeddings": False})
    assert step_flops(untied, params, **SIZES) < step_flops(TINY, params, **SIZES)
