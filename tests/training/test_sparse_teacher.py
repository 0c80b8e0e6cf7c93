import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense_oracle import cached_teacher, random_normal, softmax

from sentidistill_jax.training import sparse_teacher
from sentidistill_jax.training.sparse_teacher import SparseTeacher

VOCAB = 23


class TestAtTemperature:
    @pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
    @pytest.mark.parametrize("k", [1, 6, VOCAB])
    def test_recovers_the_dense_teacher(self, temperature, k):
        logits = random_normal(0, 5, VOCAB, scale=2.0)
        teacher = cached_teacher(logits, k, temperature)
        got = sparse_teacher.at_temperature(
            teacher.top_k_logprobs, teacher.tail_logprob, temperature
        )
        expected = np.log(softmax(logits, temperature))
        expected = np.take_along_axis(expected, np.asarray(teacher.top_k_ids), axis=-1)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("tail_mass", [1e-12, 1e-6, 0.5, 1 - 1e-4])
    def test_any_tail_mass(self, tail_mass):
        kept = jnp.asarray(np.log(np.array([0.75, 0.25]) * (1 - tail_mass)), jnp.float32)
        got = sparse_teacher.at_temperature(kept, jnp.float32(np.log(tail_mass)), 1.0)
        # A tail of 1 - 1e-4 has a log of 1e-4, whose float32 rounding moves the others by 1e-6.
        np.testing.assert_allclose(got, kept, rtol=1e-6, atol=1e-6)

    def test_padding_stays_and_changes_nothing(self):
        logprobs, tail = jnp.log(jnp.array([0.5, 0.25])), jnp.log(jnp.array(0.4))
        got = sparse_teacher.at_temperature(jnp.append(logprobs, -jnp.inf), tail, 2.0)
        assert jnp.array_equal(got[:2], sparse_teacher.at_temperature(logprobs, tail, 2.0))
        assert got[2] == -jnp.inf

    def test_a_position_without_entries_has_none(self):
        got = sparse_teacher.at_temperature(jnp.full((2, 3), -jnp.inf), jnp.zeros(2), 2.0)
        assert jnp.array_equal(got, jnp.full((2, 3), -jnp.inf))


def test_renormalize_gives_the_kept_entries_all_mass():
    teacher = SparseTeacher(
        jnp.array([[3, 1, 0], [0, 0, 0]]),
        jnp.log(jnp.array([[0.3, 0.1, 0.0], [0.0, 0.0, 0.0]])),
        jnp.log(jnp.array([0.6, 1.0])),
    )
    got = sparse_teacher.renormalize_top_k(teacher)
    np.testing.assert_allclose(jnp.exp(got.top_k_logprobs), [[0.75, 0.25, 0], [0, 0, 0]], rtol=1e-6)
    assert jnp.array_equal(got.tail_logprob, jnp.full(2, -jnp.inf))


def test_student_outcomes_leave_padding_out():
    teacher = SparseTeacher(
        jnp.array([[3, 0]]), jnp.log(jnp.array([[0.5, 0.0]])), jnp.log(jnp.array([0.5]))
    )
    outcomes = sparse_teacher.student_outcome_logits(
        jnp.log(jnp.array([[2.0, 50.0]])), jnp.log(jnp.array([6.0])), teacher
    )
    np.testing.assert_allclose(jax.nn.softmax(outcomes), [[0.25, 0.0, 0.75]], rtol=1e-6)
