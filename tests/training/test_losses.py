import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense_oracle import DIVERGENCES as ORACLES
from dense_oracle import assert_close, in_float64, random_normal
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from sentidistill_jax.training import losses

each_divergence = pytest.mark.parametrize("name", list(losses.DIVERGENCES))

# Student and teacher; one shape, so that each operation compiles once.
logit_pairs = st_numpy.arrays(np.float32, (2, 3, 7), elements=st.floats(-80, 80, width=32))


def from_logits(name, student_logits, teacher_logits):
    log_softmax = functools.partial(jax.nn.log_softmax, axis=-1)
    return losses.DIVERGENCES[name](log_softmax(student_logits), log_softmax(teacher_logits))


def value_and_gradient(function, first, *others):
    value, pullback = jax.vjp(lambda first: function(first, *others), first)
    return value, pullback(jnp.ones_like(value))[0]


def oracle_from_logits(name, student_logits, teacher_logits):
    value, gradients = in_float64(
        lambda student, teacher: ORACLES[name](jax.nn.softmax(student), jax.nn.softmax(teacher)),
        student_logits,
        teacher_logits,
    )
    return value, gradients[0]


class TestDivergences:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            # Teacher (3/4, 1/4), student (1/2, 1/2).
            ("forward_kl", 0.75 * math.log(1.5) + 0.25 * math.log(0.5)),
            ("reverse_kl", 0.5 * math.log(2 / 3) + 0.5 * math.log(2)),
            # The middle is (5/8, 3/8).
            (
                "jsd",
                0.5 * (0.75 * math.log(6 / 5) + 0.25 * math.log(2 / 3))
                + 0.5 * (0.5 * math.log(4 / 5) + 0.5 * math.log(4 / 3)),
            ),
            # A tenth of the teacher in the student: (0.525, 0.475); the other way: (0.725, 0.275).
            ("skew_forward_kl", 0.75 * math.log(0.75 / 0.525) + 0.25 * math.log(0.25 / 0.475)),
            ("skew_reverse_kl", 0.5 * math.log(0.5 / 0.725) + 0.5 * math.log(0.5 / 0.275)),
            ("tvd", 0.25),
        ],
    )
    def test_hand_numbers(self, name, expected):
        student, teacher = jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.75, 0.25]))
        assert losses.DIVERGENCES[name](student, teacher) == pytest.approx(expected, rel=1e-6)

    @each_divergence
    def test_value_and_gradient_equal_the_float64_oracle(self, name):
        student, teacher = random_normal(0, 4, 3, 17), random_normal(1, 4, 3, 17)
        value, gradient = value_and_gradient(functools.partial(from_logits, name), student, teacher)
        expected_value, expected_gradient = oracle_from_logits(name, student, teacher)
        assert value.shape == (4, 3)
        assert_close(value, expected_value)
        assert_close(gradient, expected_gradient)

    @each_divergence
    def test_bfloat16_logprobs_are_computed_in_float32(self, name):
        student, teacher = (
            jax.nn.log_softmax(random_normal(seed, 5, 17)).astype(jnp.bfloat16) for seed in (0, 1)
        )
        value = losses.DIVERGENCES[name](student, teacher)
        assert value.dtype == jnp.float32
        assert jnp.array_equal(
            value, losses.DIVERGENCES[name](student.astype("float32"), teacher.astype("float32"))
        )

    @each_divergence
    def test_outcomes_without_mass_are_ignored(self, name):
        student, teacher = random_normal(0, 5, 6), random_normal(1, 5, 6)
        masked = np.array([False, True, False, False, True, False])
        subset = value_and_gradient(
            functools.partial(from_logits, name), student[:, ~masked], teacher[:, ~masked]
        )
        value, gradient = value_and_gradient(
            functools.partial(from_logits, name),
            jnp.where(masked, -jnp.inf, student),
            jnp.where(masked, -jnp.inf, teacher),
        )
        np.testing.assert_allclose(value, subset[0], rtol=1e-6)
        np.testing.assert_allclose(gradient[:, ~masked], subset[1], rtol=1e-5, atol=1e-7)
        assert not gradient[:, masked].any()

    @each_divergence
    def test_positions_without_any_outcome_give_zero(self, name):
        nothing = jnp.full((2, 3), -jnp.inf)
        value, gradient = value_and_gradient(losses.DIVERGENCES[name], nothing, nothing)
        assert not value.any()
        assert not gradient.any()

    @each_divergence
    def test_extreme_logits_keep_value_and_gradient_finite(self, name):
        student = jnp.array([[3e4, -3e4, 0.0], [0.0, 0.0, 3e4], [-3e4, 1.0, 2.0]])
        teacher = jnp.array([[-3e4, 3e4, 0.0], [0.0, 0.0, 3e4], [3e4, 1.0, 2.0]])
        value, gradient = value_and_gradient(functools.partial(from_logits, name), student, teacher)
        assert jnp.isfinite(value).all()
        assert jnp.isfinite(gradient).all()
        assert value[0] > 0.5
        assert value[1] == pytest.approx(0.0, abs=1e-6)

    @each_divergence
    @given(logits=logit_pairs)
    @settings(max_examples=50, deadline=None)
    def test_never_negative_and_zero_for_equals(self, name, logits):
        student, teacher = logits
        rounding = 1e-5  # of logprobs down to -160
        assert (from_logits(name, student, teacher) >= -rounding).all()
        np.testing.assert_allclose(from_logits(name, student, student), 0.0, atol=rounding)

    @pytest.mark.parametrize(
        ("name", "bound"),
        [
            ("jsd", math.log(2)),
            ("skew_forward_kl", math.log(10)),
            ("skew_reverse_kl", math.log(10)),
            ("tvd", 1.0),
        ],
    )
    def test_disjoint_distributions_reach_the_bound(self, name, bound):
        student, teacher = jnp.array([0.0, -jnp.inf]), jnp.array([-jnp.inf, 0.0])
        assert losses.DIVERGENCES[name](student, teacher) == pytest.approx(bound, rel=1e-6)

    def test_jsd_weighs_the_teacher_by_beta(self):
        student, teacher = jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.75, 0.25]))
        # The middle is 0.2 teacher + 0.8 student = (0.55, 0.45).
        expected = 0.2 * (0.75 * math.log(0.75 / 0.55) + 0.25 * math.log(0.25 / 0.45))
        expected += 0.8 * (0.5 * math.log(0.5 / 0.55) + 0.5 * math.log(0.5 / 0.45))
        assert losses.jsd(student, teacher, beta=0.2) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize(
        ("divergence", "argument"),
        [
            (losses.jsd, "beta"),
            (losses.skew_forward_kl, "skew"),
            (losses.skew_reverse_kl, "skew"),
        ],
    )
    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_mixtures_need_both_sides(self, divergence, argument, value):
        logprobs = jnp.log(jnp.array([0.5, 0.5]))
        with pytest.raises(ValueError, match=rf"{argument}={value} must lie in \(0, 1\)"):
            divergence(logprobs, logprobs, **{argument: value})


class TestSampledDivergence:
    @each_divergence
    def test_expectation_over_draws_is_the_full_divergence(self, name):
        student = jax.nn.log_softmax(random_normal(0, 1, 13))
        teacher = jax.nn.log_softmax(random_normal(1, 1, 13))

        divergence = losses.DIVERGENCES[name]
        # Thirteen positions, at each of which another token was drawn.
        one_draw = losses.sampled_divergence(divergence, student.T, teacher.T, jnp.zeros((13, 1)))
        np.testing.assert_allclose(
            jnp.sum(jnp.exp(teacher[0]) * one_draw), divergence(student, teacher)[0], rtol=1e-5
        )

    def test_weights_average_the_draws_and_padding_is_ignored(self):
        student = jnp.log(jnp.array([0.5, 0.25, 0.1]))
        teacher = jnp.log(jnp.array([0.25, 0.5, 0.2]))
        weights = jnp.log(jnp.array([0.75, 0.25, 0.0]))
        value, gradient = value_and_gradient(
            functools.partial(losses.sampled_divergence, losses.forward_kl),
            student,
            teacher,
            weights,
        )
        assert value == pytest.approx(0.75 * math.log(0.5) + 0.25 * math.log(2), rel=1e-6)
        np.testing.assert_allclose(gradient, [-0.75, -0.25, 0.0], rtol=1e-6)


class TestLabelKl:
    ids = jnp.array([[11, 4, 7], [9, 2, -1], [-1, -1, -1]])
    teacher_logprobs = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.75, 0.25, 0.0], [0.0, 0.0, 0.0]]))
    logits = jnp.log(jnp.array([[0.2, 0.2, 0.4], [0.3, 0.3, 9.0], [1.0, 2.0, 3.0]]))

    def test_hand_numbers_normalise_the_student_over_the_labels(self):
        value = losses.label_kl(self.logits, self.teacher_logprobs, self.ids)
        first = 0.5 * math.log(0.5 / 0.25) + 0.25 * math.log(0.25 / 0.5)
        second = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
        np.testing.assert_allclose(value, [first, second, 0.0], rtol=1e-6)

    def test_padding_has_no_gradient(self):
        _, gradient = value_and_gradient(
            losses.label_kl, self.logits, self.teacher_logprobs, self.ids
        )
        assert jnp.isfinite(gradient).all()
        assert not gradient[self.ids < 0].any()
        np.testing.assert_allclose(gradient[1, :2], [0.5 - 0.75, 0.5 - 0.25], rtol=1e-6)

    def test_padding_may_carry_any_teacher_logprob(self):
        teacher_logprobs = jnp.where(self.ids < 0, 0.0, self.teacher_logprobs)
        assert jnp.array_equal(
            losses.label_kl(self.logits, teacher_logprobs, self.ids),
            losses.label_kl(self.logits, self.teacher_logprobs, self.ids),
        )
