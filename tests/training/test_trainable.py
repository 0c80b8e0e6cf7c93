"""Which parameters train, in which dtype, and low-rank adapters against weights added up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import arrays_of, assert_trees_close, random_decoder

from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.training.trainable import Lora, take_apart

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LORA = Lora(rank=3, scale=0.5, targets=ALL)
TOKENS = jnp.arange(12, dtype=jnp.int32).reshape(2, 6)
POSITIONS = jnp.tile(jnp.arange(6, dtype=jnp.int32), (2, 1))


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({}, jax.devices()[:1])


@pytest.fixture(scope="module")
def decoder(mesh):
    return random_decoder(mesh)


def names(state):
    return {".".join(map(str, path)) for path, _ in nnx.to_flat_state(state)}


@pytest.mark.parametrize(
    ("frozen", "expected"),
    [
        ((), set()),
        (("embedding",), {"embedding"}),
        ((r"^layers\.mlp\.(up|gate)",), {"layers.mlp.up_proj", "layers.mlp.gate_proj"}),
        (("norm",), {"final_norm.scale", "layers.attention_norm.scale", "layers.mlp_norm.scale"}),
        (("nothing like it",), set()),
    ],
)
def test_frozen_parameters_are_those_whose_path_matches(decoder, mesh, frozen, expected):
    parts = take_apart(decoder, mesh, frozen=frozen)
    assert names(parts.frozen) == expected
    assert len(names(parts.params)) + len(expected) == 11


def test_parameters_have_their_dtype_and_adapters_float32(decoder, mesh):
    for adapters in (None, LORA):
        parts = take_apart(
            decoder, mesh, frozen=("embedding",), param_dtype=jnp.bfloat16, adapters=adapters
        )
        assert {leaf.dtype for leaf in jax.tree.leaves(parts.frozen)} == {jnp.dtype("bfloat16")}
        trained = jnp.dtype("bfloat16" if adapters is None else "float32")
        assert {leaf.dtype for leaf in jax.tree.leaves(parts.params)} == {trained}


def hidden(decoder):
    return jax.jit(lambda tokens: decoder(tokens, POSITIONS)[0])(TOKENS)


@pytest.fixture(scope="module")
def parts(decoder, mesh):
    return take_apart(decoder, mesh, adapters=LORA, seed=1)


@pytest.fixture(scope="module")
def trained(parts):
    """The adapters as they might be after training: nothing is zero."""
    rng = np.random.default_rng(0)

    def moved(array):
        return array + rng.normal(0, 0.1, array.shape).astype(np.float32)

    return jax.tree.map(moved, parts.params)


class TestAdapters:
    def test_have_thin_matrices_stacked_over_layers(self, parts):
        shapes = {name: array.shape for name, array in arrays_of(parts.params).items()}
        assert len(shapes) == 14
        assert shapes["layers.attention.q_proj.down"] == (2, 48, 3)
        assert shapes["layers.attention.q_proj.up"] == (2, 3, 4, 16)
        assert shapes["layers.attention.o_proj.down"] == (2, 4, 16, 3)
        assert shapes["layers.attention.o_proj.up"] == (2, 3, 48)
        assert shapes["layers.mlp.down_proj.down"] == (2, 80, 3)
        assert names(parts.frozen) == {name.rsplit(".", 1)[0] for name in shapes} | {
            "embedding", "final_norm.scale", "layers.attention_norm.scale", "layers.mlp_norm.scale",
        }  # fmt: skip

    def test_change_nothing_at_first(self, decoder, parts):
        expected = hidden(decoder)
        for put in (parts.assemble, parts.merge):
            np.testing.assert_array_equal(hidden(put(parts.params, parts.frozen)), expected)

    def test_beside_the_weights_are_the_weights_with_them_added(self, decoder, parts, trained):
        merged = parts.merge(trained, parts.frozen)
        got, expected = hidden(parts.assemble(trained, parts.frozen)), hidden(merged)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
        assert np.abs(expected - hidden(decoder)).max() > 0.1

    def test_merged_into_one_weight_by_hand(self, parts, trained):
        arrays, adapters = arrays_of(parts.frozen), arrays_of(trained)
        merged = arrays_of(nnx.state(parts.merge(trained, parts.frozen)))
        name = "layers.attention.o_proj"
        for layer in range(2):
            product = np.einsum(
                "hdr,re->hde", adapters[f"{name}.down"][layer], adapters[f"{name}.up"][layer]
            )
            expected = arrays[name][layer] + 0.5 * product
            np.testing.assert_allclose(merged[name][layer], expected, rtol=1e-5, atol=1e-6)

    def test_have_the_gradient_of_the_weights_with_them_added(self, parts, trained):
        weight = jnp.asarray(np.random.default_rng(1).normal(size=(2, 6, 48)), jnp.float32)

        def loss(put):
            def of(adapters):
                return jnp.sum(put(adapters, parts.frozen)(TOKENS, POSITIONS)[0] * weight)

            return jax.jit(jax.grad(of))(trained)

        got, expected = arrays_of(loss(parts.assemble)), arrays_of(loss(parts.merge))
        assert min(np.abs(gradient).max() for gradient in expected.values()) > 1e-3
        assert_trees_close(got, expected, 1e-4)

    def test_depend_on_the_seed_and_the_weight_they_belong_to(self, decoder, mesh, parts):
        first, second = (
            arrays_of(take_apart(decoder, mesh, adapters=LORA, seed=seed).params) for seed in (1, 2)
        )
        assert_trees_close(first, arrays_of(parts.params), 0)
        down = "layers.mlp.{}_proj.down"
        assert np.abs(first[down.format("up")] - second[down.format("up")]).max() > 0.01
        assert np.abs(first[down.format("up")] - first[down.format("gate")]).max() > 0.01


@pytest.mark.parametrize(
    ("adapters", "message"),
    [
        (Lora(0, 1.0, ALL), "rank=0.*rank of at least 1"),
        (Lora(2, 1.0, ("q_proj", "head")), r"targets=\('q_proj', 'head'\).*targets among \['down_"),
        (Lora(2, 1.0, ()), r"targets=\(\)"),
    ],
)
def test_adapters_without_a_weight_are_refused(decoder, mesh, adapters, message):
    with pytest.raises(ValueError, match=message):
        take_apart(decoder, mesh, adapters=adapters)


def test_something_must_train(decoder, mesh):
    with pytest.raises(ValueError, match=r"optimizer.frozen=\('.',\) matches every parameter"):
        take_apart(decoder, mesh, frozen=(".",))
