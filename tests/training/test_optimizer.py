"""Schedules at their corners, what decays, what is clipped, and which parameters train."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers import random_decoder

from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.training.optimizer import (
    OPTIMIZERS,
    SCHEDULES,
    make_optimizer,
    make_schedule,
    trainable_filter,
)


def values(kind, steps, *, warmup_steps=4, total_steps=24, final_fraction=0.2):
    schedule: Any = make_schedule(
        kind,
        peak=0.5,
        warmup_steps=warmup_steps,
        total_steps=total_steps,
        final_fraction=final_fraction,
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

    def test_without_warm_up_the_first_step_is_at_the_peak(self):
        assert values("linear", [0, 10, 20], warmup_steps=0, total_steps=20) == [0.5, 0.3, 0.1]

    @pytest.mark.parametrize(
        ("kind", "warmup_steps", "message"),
        [
            ("step", 4, r"schedule='step' must be one of \['cosine', 'linear', 'constant'\]"),
            ("linear", 24, "warmup_steps=24 must be less than the 24 steps of the run; lower"),
            ("linear", -1, "warmup_steps=-1 must be"),
        ],
    )
    def test_errors(self, kind, warmup_steps, message):
        with pytest.raises(ValueError, match=message):
            values(kind, [0], warmup_steps=warmup_steps)


PARAMS: Any = {"layers": {"kernel": jnp.full((2, 3), 2.0), "scale": jnp.full((3,), 2.0)}}


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
        assert (new["layers"]["kernel"] < 2).all()
        np.testing.assert_array_equal(new["layers"]["scale"], 2)


def test_gradients_are_clipped_by_their_global_norm():
    gradients = jax.tree.map(jnp.ones_like, PARAMS)  # nine ones: norm 3
    clip = make_optimizer("adamw", lambda step: 0.1, weight_decay=0.0, clip_norm=0.3)
    _, state = clip.update(gradients, clip.init(PARAMS), PARAMS)
    mean = optax.tree.get(state, "mu")  # 0.1 times the gradient it saw
    for leaf in jax.tree.leaves(mean):
        np.testing.assert_allclose(leaf, 0.1 * 0.1, rtol=1e-5)


def test_an_unknown_optimizer_is_an_error():
    with pytest.raises(ValueError, match=r"optimizer.name='sgd' must be one of \['adafactor', "):
        updated("sgd", PARAMS)


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
def test_frozen_parameters_are_those_whose_path_matches(frozen, expected):
    decoder = random_decoder(make_mesh({}, jax.devices()[:1]))
    _, trained, rest = nnx.split(decoder, trainable_filter(frozen), ...)
    paths = [
        {".".join(map(str, path)) for path, _ in nnx.to_flat_state(s)} for s in (trained, rest)
    ]
    assert paths[1] == expected
    assert len(paths[0]) + len(expected) == 11
