"""Schedules at their corners, what decays, what is clipped, and which parameters train."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers import random_decoder
from optax.contrib import MuonDimensionNumbers

from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.training.optimizer import (
    OPTIMIZERS,
    SCHEDULES,
    _muon_axes,
    make_optimizer,
    make_schedule,
)
from sentidistill_jax.training.trainable import Lora, take_apart


def values(kind, steps, *, warmup_steps=4, total_steps=24, final_fraction=0.2, decay_steps=8):
    schedule: Any = make_schedule(
        kind,
        peak=0.5,
        warmup_steps=warmup_steps,
        total_steps=total_steps,
        final_fraction=final_fraction,
        decay_steps=decay_steps,
    )
    return [pytest.approx(float(schedule(step)), abs=1e-6) for step in steps]


class TestSchedule:
    @pytest.mark.parametrize("kind", SCHEDULES)
    def test_warms_up_in_a_line_from_0(self, kind):
        assert values(kind, [0, 1, 2, 3, 4]) == [0, 0.125, 0.25, 0.375, 0.5]

    @pytest.mark.parametrize(
        ("kind", "middle", "last"), [("linear", 0.3, 0.1), ("cosine", 0.3, 0.1)]
    )
    def test_decays_to_the_final_fraction_and_stays(self, kind, middle, last):
        assert values(kind, [14, 24, 30]) == [middle, last, last]

    def test_cosine_is_slow_at_both_ends(self):
        quarter = 0.1 + 0.4 * (1 + np.cos(np.pi / 4)) / 2
        assert values("cosine", [9]) == [pytest.approx(quarter)]

    def test_constant_ignores_the_final_fraction(self):
        assert values("constant", [4, 14, 24]) == [0.5] * 3

    def test_wsd_stays_at_the_peak_and_decays_in_a_line_at_the_end(self):
        assert values("wsd", [4, 15, 16, 20, 24, 30]) == [0.5, 0.5, 0.5, 0.3, 0.1, 0.1]

    def test_without_warm_up_the_first_step_is_at_the_peak(self):
        assert values("linear", [0, 10, 20], warmup_steps=0, total_steps=20) == [0.5, 0.3, 0.1]

    @pytest.mark.parametrize(
        ("kind", "warmup_steps", "message"),
        [
            ("step", 4, r"schedule='step' must be one of \['cosine', 'linear', 'wsd', 'constant'"),
            ("wsd", 17, "decay_steps=8 must be from 1 to the 7 steps after the warm-up; change"),
            ("linear", 24, "warmup_steps=24 must be less than the 24 steps of the run; lower"),
            ("linear", -1, "warmup_steps=-1 must be"),
        ],
    )
    def test_errors(self, kind, warmup_steps, message):
        with pytest.raises(ValueError, match=message):
            values(kind, [0], warmup_steps=warmup_steps)


# Like the parameters of a decoder with two layers: a matrix each, and a norm.
PARAMS: Any = nnx.State(
    {
        "kernel": nnx.Param(
            jnp.stack([jnp.full((2, 3), 2.0), jnp.full((2, 3), -2.0)]),
            axes=("layers", "embed", "mlp"),
        ),
        "scale": nnx.Param(jnp.full((2, 3), 2.0), axes=("layers", "activation_embed")),
    }
)


def updated(name, gradients, *, weight_decay=0.0, clip_norm=1e9, learning_rate=0.1) -> Any:
    optimizer = make_optimizer(
        name, lambda step: learning_rate, weight_decay=weight_decay, clip_norm=clip_norm
    )
    updates, _ = optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)
    return optax.apply_updates(PARAMS, updates)


@pytest.mark.parametrize("name", OPTIMIZERS)
class TestOptimizer:
    def test_goes_downhill(self, name):
        new = updated(name, jax.tree.map(jnp.ones_like, PARAMS))
        for before, after in zip(jax.tree.leaves(PARAMS), jax.tree.leaves(new), strict=True):
            assert (after < before).all()

    def test_all_but_norm_scales_decay(self, name):
        new = updated(name, jax.tree.map(jnp.zeros_like, PARAMS), weight_decay=0.5)
        assert (jnp.abs(new["kernel"][...]) < 2).all()
        np.testing.assert_array_equal(new["scale"][...], 2)

    def test_decay_is_in_proportion_to_the_learning_rate(self, name):
        zeros = jax.tree.map(jnp.zeros_like, PARAMS)
        small, large = (
            2 - updated(name, zeros, weight_decay=0.5, learning_rate=rate)["kernel"][0]
            for rate in (0.01, 0.02)
        )
        np.testing.assert_allclose(small, 2 * 0.5 * 0.01, rtol=1e-4)
        np.testing.assert_allclose(large, 2 * 0.5 * 0.02, rtol=1e-4)

    def test_keeps_momentum_in_the_dtype_asked_for(self, name):
        optimizer = make_optimizer(
            name, lambda step: 0.1, weight_decay=0.1, clip_norm=1.0, momentum_dtype=jnp.bfloat16
        )
        state = optimizer.init(PARAMS)
        gradients = jax.tree.map(jnp.ones_like, PARAMS)
        updates, new_state = optimizer.update(gradients, state, PARAMS)
        assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("float32")}
        dtypes = [jax.tree.map(lambda leaf: leaf.dtype, one) for one in (state, new_state)]
        assert dtypes[0] == dtypes[1]
        rounded = [leaf.size for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.bfloat16]
        assert sorted(rounded) == ([] if name == "adafactor" else [6, 12])


def test_gradients_are_clipped_by_their_global_norm():
    gradients = jax.tree.map(jnp.ones_like, PARAMS)  # 18 ones: norm 3 * 2 ** 0.5
    clip = make_optimizer("adamw", lambda step: 0.1, weight_decay=0.0, clip_norm=0.3)
    _, state = clip.update(gradients, clip.init(PARAMS), PARAMS)
    mean = optax.tree.get(state, "mu")  # 0.1 times the gradient it saw
    for leaf in jax.tree.leaves(mean):
        np.testing.assert_allclose(leaf, 0.1 * 0.1 / 2**0.5, rtol=1e-5)


class TestMuon:
    def test_moves_each_layer_by_an_orthogonal_matrix_of_its_own(self):
        """Gradients of one layer do not show in another, nor does their size."""
        gradient = jax.tree.map(jnp.zeros_like, PARAMS)
        rng = np.random.default_rng(0)
        both = jnp.asarray(rng.normal(size=(2, 2, 3)), jnp.float32) * jnp.array([[[1.0]], [[50.0]]])
        gradient["kernel"] = gradient["kernel"].replace(both)
        moved = PARAMS["kernel"][...] - updated("muon", gradient)["kernel"][...]
        for layer in range(2):
            values = np.linalg.svd(moved[layer] / (0.1 * 0.2 * 3**0.5), compute_uv=False)
            np.testing.assert_allclose(values, 1, atol=0.35)  # five Newton-Schulz steps, not more

    def test_orthogonalises_the_matrices_of_layers_and_adapters_only(self):
        """Inputs and outputs of each; embedding and norms are left to Adam."""
        mesh = make_mesh({}, jax.devices()[:1])
        decoder = random_decoder(mesh)
        adapters = Lora(2, 1.0, ("q_proj", "o_proj"))
        params = {
            "weight": nnx.state(decoder),
            "adapter": take_apart(decoder, mesh, adapters=adapters).params,
        }
        leaves = jax.tree.leaves_with_path(
            _muon_axes(params), is_leaf=lambda leaf: isinstance(leaf, MuonDimensionNumbers)
        )
        wide, tall = MuonDimensionNumbers((1,), (2, 3)), MuonDimensionNumbers((1, 2), (3,))
        flat = MuonDimensionNumbers((1,), (2,))
        assert {jax.tree_util.keystr(p, simple=True, separator="."): n for p, n in leaves} == {
            "weight.layers.attention.q_proj": wide,
            "weight.layers.attention.k_proj": wide,
            "weight.layers.attention.v_proj": wide,
            "weight.layers.attention.o_proj": tall,
            "weight.layers.mlp.gate_proj": flat,
            "weight.layers.mlp.up_proj": flat,
            "weight.layers.mlp.down_proj": flat,
            "adapter.layers.attention.q_proj.down": flat,
            "adapter.layers.attention.q_proj.up": wide,
            "adapter.layers.attention.o_proj.down": tall,
            "adapter.layers.attention.o_proj.up": flat,
        }
        optimizer = make_optimizer("muon", lambda step: 0.1, weight_decay=0.0, clip_norm=1.0)
        for one in params.values():
            state = jax.eval_shape(optimizer.init, one)
            jax.eval_shape(optimizer.update, one, state, one)


def test_a_new_optimizer_is_an_entry(monkeypatch):
    def sign(schedule, weight_decay, momentum_dtype):
        return optax.sign_sgd(schedule)

    monkeypatch.setitem(OPTIMIZERS, "sign", sign)
    optimizer = make_optimizer("sign", lambda step: 0.1, weight_decay=0.0, clip_norm=1.0)
    updates, _ = optimizer.update(jnp.array([3.0, -0.5, 0.0]), optimizer.init(jnp.zeros(3)))
    np.testing.assert_allclose(np.asarray(updates), [-0.1, 0.1, 0.0], rtol=1e-6)


def test_an_unknown_optimizer_is_an_error():
    with pytest.raises(ValueError, match=r"optimizer.name='sgd' must be one of \['adafactor', "):
        updated("sgd", PARAMS)
