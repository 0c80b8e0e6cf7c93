"""Importance against hand-made models and a plain computation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from goldens import decoder_of
from helpers import TINY, random_decoder

from sentidistill_jax.models.importance import (
    choose_layers,
    largest,
    residual_statistics,
    width_importance,
)
from sentidistill_jax.models.pruning import prune_depth
from sentidistill_jax.sharding import make_mesh

RNG = np.random.default_rng(0)
SEQUENCES = [RNG.integers(0, TINY.vocab_size, length, np.int32) for length in (70, 3, 20)]


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"fsdp": 2, "tensor": 2}, jax.devices()[:4])


@pytest.fixture(scope="module")
def model(mesh):
    return random_decoder(mesh, dataclasses.replace(TINY, num_layers=3))


def zero(model, parameter, index):
    module, name = model.layers, parameter.split(".")
    variable = getattr(getattr(module, name[0]), name[1])
    variable.set_value(variable.get_value().at[index].set(0))


def copy_of(model):
    return nnx.merge(*nnx.split(jax.tree.map(jnp.array, model)))


def test_statistics_are_those_of_a_plain_computation(model, mesh):
    got = residual_statistics(model, SEQUENCES, mesh)
    # Without its scale the final norm leaves the direction of the hidden states, which is all that
    # counts; so that of a model's first layers is the stream after them.
    plain = copy_of(model)
    plain.final_norm.scale.set_value(jnp.ones_like(plain.final_norm.scale.get_value()))
    table = np.asarray(model.embedding.get_value())
    stream = [np.concatenate([table[tokens] for tokens in SEQUENCES])]
    for layers in ((0,), (0, 1), (0, 1, 2)):
        first = prune_depth(plain, layers)
        hidden = [
            first(jnp.asarray(tokens)[None], jnp.arange(len(tokens))[None])[0][0]
            for tokens in SEQUENCES
        ]
        stream.append(np.concatenate([np.asarray(x) for x in hidden]))
    stream = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in stream]
    cosines = [np.sum(x * y, axis=-1) for x, y in zip(stream, stream[1:], strict=False)]
    np.testing.assert_allclose(got.influence, [1 - np.mean(c) for c in cosines], atol=1e-5)
    np.testing.assert_allclose(got.energy, [np.mean(x**2, axis=0) for x in stream], atol=1e-5)
    np.testing.assert_allclose(got.energy.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["llama_untied", "gemma2"])
def test_a_layer_that_does_nothing_is_the_first_to_go(name, mesh):
    idle = decoder_of(name, mesh)
    zero(idle, "attention.o_proj", 1)
    zero(idle, "mlp.down_proj", 1)
    sequences = [tokens % idle.config.vocab_size for tokens in SEQUENCES]
    influence = residual_statistics(idle, sequences, mesh).influence
    assert abs(influence[1]) < 1e-6 < 1e-3 < min(influence[0], influence[2])
    assert choose_layers(2, "importance", influence) == (0, 2)


@pytest.mark.parametrize(
    ("choice", "number", "expected"),
    [
        ("first", 3, (0, 1, 2)),
        ("even", 1, (0,)),
        ("even", 2, (0, 6)),
        ("even", 3, (0, 3, 6)),
        ("even", 7, (0, 1, 2, 3, 4, 5, 6)),
        ("importance", 3, (1, 4, 5)),
        ("importance", 4, (0, 1, 4, 5)),  # the first of equals
    ],
)
def test_layers_are_chosen_by_rule(choice, number, expected):
    influence = np.array([0.1, 0.5, 0.1, 0.1, 0.3, 0.9, 0.1])
    assert choose_layers(number, choice, influence) == expected


def test_what_cannot_be_chosen_is_refused():
    with pytest.raises(ValueError, match=r"student.layer_choice='last' must be one of \['first'"):
        choose_layers(1, "last", np.zeros(3))
    with pytest.raises(ValueError, match="student.num_layers=4 must be 1 to 3"):
        choose_layers(4, "first", np.zeros(3))


@pytest.mark.parametrize(
    ("axis", "parameter", "index", "layer", "dead"),
    [
        ("mlp", "mlp.gate_proj", (0, slice(None), 7), 0, 7),
        ("mlp", "mlp.up_proj", (2, slice(None), 7), 2, 7),
        ("mlp", "mlp.down_proj", (1, 9), 1, 9),
        ("kv_heads", "attention.v_proj", (1, slice(None), 0), 1, 0),
        ("kv_heads", "attention.o_proj", (2, slice(2, 4)), 2, 1),  # both heads of group 1
    ],
)
def test_what_has_no_effect_in_a_layer_matters_least_there(
    model, mesh, axis, parameter, index, layer, dead
):
    broken = copy_of(model)
    zero(broken, parameter, index)
    importance = width_importance(broken, SEQUENCES, mesh)[axis]
    assert np.argwhere(importance == 0).tolist() == [[layer, dead]]
    assert dead not in largest(importance, importance.shape[1] - 1)[layer]


@pytest.mark.parametrize("name", ["qwen2", "gemma3"])
def test_biases_and_norms_leave_importance_to_what_has_an_effect(name, mesh):
    broken = decoder_of(name, mesh)
    config = broken.config
    group = config.num_heads // config.num_kv_heads
    zero(broken, "attention.o_proj", (1, slice(0, group)))
    zero(broken, "mlp.down_proj", (0, 5))
    sequences = [tokens % config.vocab_size for tokens in SEQUENCES]
    importance = width_importance(broken, sequences, mesh)
    assert np.argwhere(importance["kv_heads"] == 0).tolist() == [[1, 0]]
    assert np.argwhere(importance["mlp"] == 0).tolist() == [[0, 5]]


def test_importance_is_what_a_channel_or_head_changes_in_the_loss(model, mesh):
    """The directional derivative, by differences, of scaling a channel or head in one matrix."""
    got = width_importance(model, SEQUENCES[:1], mesh)
    assert {axis: value.shape for axis, value in got.items()} == {
        "mlp": (3, 80), "kv_heads": (3, 2),
    }  # fmt: skip

    def loss(name, index, factor):
        other = copy_of(model)
        module = other.layers.mlp if name in ("gate_proj", "up_proj", "down_proj") else (
            other.layers.attention
        )  # fmt: skip
        variable = getattr(module, name)
        variable.set_value(variable.get_value().at[index].multiply(factor))
        tokens = jnp.asarray(SEQUENCES[0])[None]
        hidden, _ = other(tokens, jnp.arange(tokens.shape[1])[None])
        logprobs = jax.nn.log_softmax(other.logits(hidden[0, :-1]), axis=-1)
        return -float(jnp.mean(jnp.take_along_axis(logprobs, tokens[0, 1:, None], axis=-1)))

    every = slice(None)
    parts = {
        ("mlp", 1, 7): [
            ("gate_proj", (1, every, 7)), ("up_proj", (1, every, 7)), ("down_proj", (1, 7)),
        ],
        ("kv_heads", 2, 1): [
            ("q_proj", (2, every, slice(2, 4))), ("k_proj", (2, every, 1)),
            ("v_proj", (2, every, 1)), ("o_proj", (2, slice(2, 4))),
        ],
    }  # fmt: skip
    for (axis, layer, index), slices in parts.items():
        slopes = [(loss(name, at, 1.05) - loss(name, at, 0.95)) / 0.1 for name, at in slices]
        np.testing.assert_allclose(got[axis][layer, index], np.sum(np.square(slopes)), rtol=0.05)
