import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from dense_oracle import DIVERGENCES as ORACLES
from dense_oracle import (
    assert_close,
    cached_teacher,
    collapse,
    in_float64,
    random_normal,
    softmax,
)

from sentidistill_jax.training import losses
from sentidistill_jax.training.distill_loss import (
    DistillTargets,
    LabelTargets,
    LossTerms,
    SparseTeacher,
    at_temperature,
    distill_loss,
    renormalize_top_k,
    student_outcome_logits,
)

ROWS, VOCAB, EMBED, K = 6, 29, 8, 5
HIDDEN = random_normal(0, ROWS, EMBED)
HEAD = random_normal(1, VOCAB, EMBED)
TEACHER_LOGITS = random_normal(2, ROWS, VOCAB, scale=3.0)
TOKENS = jnp.asarray(np.random.default_rng(3).integers(0, VOCAB, ROWS), jnp.int32)
LABEL_IDS = jnp.array([[3, 8, 21]] * 4 + [[17, 2, -1], [-1, -1, -1]])
LABEL_LOGPROBS = jnp.log(jnp.array([[0.5, 0.3, 0.2]] * 4 + [[0.9, 0.1, 0.0], [0.0, 0.0, 0.0]]))
WEIGHTS = jnp.abs(random_normal(4, 3, ROWS)) + 0.1


def teacher_at(temperature, k=K):
    cached = cached_teacher(TEACHER_LOGITS, k, temperature)
    logprobs = at_temperature(cached.top_k_logprobs, cached.tail_logprob, temperature)
    return cached._replace(top_k_logprobs=logprobs)


def divergence_and_gradients(teacher, name="forward_kl", hidden=HIDDEN, head=HEAD, **options):
    """The divergence alone, per row, and the gradients of its sum."""

    def loss(hidden, head):
        weights = LossTerms(jnp.zeros(len(hidden)), jnp.ones(len(hidden)))
        divergence = losses.DIVERGENCES[name]
        targets = DistillTargets(jnp.zeros(len(hidden), jnp.int32), teacher)
        return distill_loss(hidden, head, targets, weights, divergence=divergence, **options)

    grad = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (_, terms), gradients = grad(hidden, head)
    return terms.divergence, gradients


def assert_equal_to_oracle(got, oracle, tolerance=1e-5):
    value, gradients = in_float64(oracle, HIDDEN, HEAD)
    assert_close(got[0], value, tolerance)
    for got_gradient, gradient in zip(got[1], gradients, strict=True):
        assert_close(got_gradient, gradient, tolerance)


class TestAtTemperature:
    @pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
    @pytest.mark.parametrize("k", [1, 6, VOCAB])
    def test_recovers_the_dense_teacher(self, temperature, k):
        logits = random_normal(0, 5, VOCAB, scale=2.0)
        teacher = cached_teacher(logits, k, temperature)
        got = at_temperature(teacher.top_k_logprobs, teacher.tail_logprob, temperature)
        expected = np.log(softmax(logits, temperature))
        expected = np.take_along_axis(expected, np.asarray(teacher.top_k_ids), axis=-1)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("tail_mass", [1e-12, 1e-6, 0.5, 1 - 1e-4])
    def test_any_tail_mass(self, tail_mass):
        kept = jnp.asarray(np.log(np.array([0.75, 0.25]) * (1 - tail_mass)), jnp.float32)
        got = at_temperature(kept, jnp.float32(np.log(tail_mass)), 1.0)
        # A tail of 1 - 1e-4 has a log of 1e-4, whose float32 rounding moves the others by 1e-6.
        np.testing.assert_allclose(got, kept, rtol=1e-6, atol=1e-6)

    def test_padding_stays_and_changes_nothing(self):
        logprobs, tail = jnp.log(jnp.array([0.5, 0.25])), jnp.log(jnp.array(0.4))
        got = at_temperature(jnp.append(logprobs, -jnp.inf), tail, 2.0)
        assert jnp.array_equal(got[:2], at_temperature(logprobs, tail, 2.0))
        assert got[2] == -jnp.inf

    def test_a_position_without_entries_has_none(self):
        got = at_temperature(jnp.full((2, 3), -jnp.inf), jnp.zeros(2), 2.0)
        assert jnp.array_equal(got, jnp.full((2, 3), -jnp.inf))


def test_renormalize_gives_the_kept_entries_all_mass():
    teacher = SparseTeacher(
        jnp.array([[3, 1, 0], [0, 0, 0]]),
        jnp.log(jnp.array([[0.3, 0.1, 0.0], [0.0, 0.0, 0.0]])),
        jnp.log(jnp.array([0.6, 1.0])),
    )
    got = renormalize_top_k(teacher)
    np.testing.assert_allclose(jnp.exp(got.top_k_logprobs), [[0.75, 0.25, 0], [0, 0, 0]], rtol=1e-6)
    assert jnp.array_equal(got.tail_logprob, jnp.full(2, -jnp.inf))


def test_student_outcomes_leave_padding_out():
    teacher = SparseTeacher(
        jnp.array([[3, 0]]), jnp.log(jnp.array([[0.5, 0.0]])), jnp.log(jnp.array([0.5]))
    )
    outcomes = student_outcome_logits(
        jnp.log(jnp.array([[2.0, 50.0]])), jnp.log(jnp.array([6.0])), teacher
    )
    np.testing.assert_allclose(jax.nn.softmax(outcomes), [[0.25, 0.0, 0.75]], rtol=1e-6)


class TestDivergenceAgainstDense:
    @pytest.mark.parametrize("name", list(losses.DIVERGENCES))
    @pytest.mark.parametrize(("k", "temperature"), [(K, 1.0), (K, 2.5), (VOCAB, 2.5)])
    def test_tail_as_an_outcome(self, name, temperature, k):
        teacher = teacher_at(temperature, k)

        def oracle(hidden, head):
            student = jax.nn.softmax(hidden @ head.T / temperature)
            target = softmax(TEACHER_LOGITS, temperature)
            if k == VOCAB:
                return ORACLES[name](student, target)
            return ORACLES[name](
                collapse(student, teacher.top_k_ids), collapse(target, teacher.top_k_ids)
            )

        got = divergence_and_gradients(teacher, name, temperature=temperature)
        assert_equal_to_oracle(got, oracle)

    @pytest.mark.parametrize("name", ["forward_kl", "jsd", "skew_reverse_kl"])
    def test_renormalized_over_top_k(self, name):
        teacher = teacher_at(1.0)
        kept = np.zeros((ROWS, VOCAB))
        np.put_along_axis(kept, np.asarray(teacher.top_k_ids), 1.0, axis=-1)
        target = softmax(TEACHER_LOGITS) * kept
        target /= target.sum(axis=-1, keepdims=True)
        got = divergence_and_gradients(renormalize_top_k(teacher), name)
        assert_equal_to_oracle(
            got, lambda hidden, head: ORACLES[name](jax.nn.softmax(hidden @ head.T), target)
        )

    @pytest.mark.parametrize("name", ["forward_kl", "jsd", "tvd"])
    def test_sampled_estimate_is_exact_when_draws_match_the_teacher(self, name):
        whole = teacher_at(1.0, k=VOCAB)
        drawn = whole._replace(sample_log_weights=whole.top_k_logprobs)
        got = divergence_and_gradients(drawn, name)
        assert_equal_to_oracle(
            got,
            lambda hidden, head: ORACLES[name](
                jax.nn.softmax(hidden @ head.T), softmax(TEACHER_LOGITS)
            ),
        )

    def test_sampled_estimate_is_unbiased(self):
        positions, draws = 4000, 8
        probs = softmax(TEACHER_LOGITS[0])
        counts = np.random.default_rng(0).multinomial(draws, probs, size=positions)
        ids = np.argsort(-counts, axis=-1)[:, :draws]
        counts = np.take_along_axis(counts, ids, axis=-1)
        with np.errstate(divide="ignore"):  # fewer distinct tokens than draws: padding
            log_weights = np.log(counts / draws).astype(np.float32)
        logprobs = np.where(counts > 0, np.log(probs)[ids], -np.inf).astype(np.float32)
        drawn = SparseTeacher(
            *map(jnp.asarray, (ids, logprobs, np.zeros(positions, np.float32), log_weights))
        )
        estimates, _ = divergence_and_gradients(drawn, hidden=jnp.tile(HIDDEN[:1], (positions, 1)))
        expected = divergence_and_gradients(teacher_at(1.0, k=VOCAB))[0][0]
        standard_error = float(jnp.std(estimates)) / np.sqrt(positions)
        assert 4 * standard_error < 0.05 * expected
        assert abs(jnp.mean(estimates) - expected) < 4 * standard_error

    def test_softcapped_logits(self):
        teacher = teacher_at(1.0)

        def oracle(hidden, head):
            student = jax.nn.softmax(2.0 * jnp.tanh(hidden @ head.T / 2.0))
            return ORACLES["forward_kl"](
                collapse(student, teacher.top_k_ids),
                collapse(softmax(TEACHER_LOGITS), teacher.top_k_ids),
            )

        assert_equal_to_oracle(divergence_and_gradients(teacher, logit_softcap=2.0), oracle)

    @pytest.mark.parametrize("name", ["forward_kl", "reverse_kl"])
    def test_a_vanishing_tail_keeps_its_digits(self, name):
        # Kept logits stand 40 above the rest: 1 minus their mass is 0 in float32.
        lift = jnp.where(jnp.arange(VOCAB) < K, 40.0, 0.0)
        student_logits = random_normal(5, ROWS, VOCAB) + jnp.tile(lift, (ROWS, 1))
        teacher = SparseTeacher(
            jnp.tile(jnp.arange(K), (ROWS, 1)),
            jnp.full((ROWS, K), -np.log(K)),
            jnp.full(ROWS, -3.0),
        )
        value, _ = divergence_and_gradients(
            teacher, name, hidden=student_logits, head=jnp.eye(VOCAB)
        )
        target = np.exp(np.append(np.full(K, -np.log(K)), -3.0))
        expected, _ = in_float64(
            lambda logits: ORACLES[name](
                collapse(jax.nn.softmax(logits), teacher.top_k_ids), np.tile(target, (ROWS, 1))
            ),
            student_logits,
        )
        assert_close(value, expected)

    def test_merging_outcomes_never_raises_the_divergence(self):
        whole, _ = divergence_and_gradients(teacher_at(1.0, k=VOCAB))
        merged = [divergence_and_gradients(teacher_at(1.0, k=k))[0] for k in (2, 10)]
        assert (merged[0] < merged[1]).all()
        assert (merged[1] < whole).all()


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl"])
def test_padded_entries_change_nothing_whatever_their_ids(name):
    teacher = teacher_at(1.0)
    ids = jnp.concatenate([teacher.top_k_ids[:, ::-1], jnp.array([[-1, VOCAB]] * ROWS)], axis=1)
    padding = jnp.full((ROWS, K + 2), -jnp.inf)
    padded = SparseTeacher(
        jnp.concatenate([teacher.top_k_ids, ids], axis=1),
        jnp.concatenate([teacher.top_k_logprobs, padding], axis=1),
        teacher.tail_logprob,
    )
    jax.tree.map(
        functools.partial(assert_close, tolerance=1e-6),
        divergence_and_gradients(padded, name),
        divergence_and_gradients(teacher, name),
    )


@pytest.mark.parametrize("name", list(losses.DIVERGENCES))
def test_extreme_logits_keep_values_and_gradients_finite(name):
    got = divergence_and_gradients(teacher_at(1.0), name, hidden=HIDDEN * 1e4, temperature=2.0)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(got))


class TestCrossEntropy:
    def value_and_gradient(self, logits, targets):
        """The term of each row and the gradient of their sum; the identity is the head."""

        def loss(logits):
            weights = LossTerms(jnp.ones(len(logits)))
            head = jnp.eye(logits.shape[1])
            return distill_loss(logits, head, DistillTargets(targets), weights)

        (_, terms), gradient = jax.value_and_grad(loss, has_aux=True)(logits)
        return terms.ce, gradient

    def test_hand_numbers(self):
        logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])) + 7.0
        value, _ = self.value_and_gradient(logits, jnp.array([1, 2]))
        np.testing.assert_allclose(value, [math.log(4), -math.log(0.7)], rtol=1e-6)

    def test_value_and_gradient_equal_the_float64_oracle(self):
        logits, targets = random_normal(0, 4, 17), jnp.array([3, 0, 16, 5])
        value, gradient = self.value_and_gradient(logits, targets)
        expected_value, (expected_gradient,) = in_float64(
            lambda logits: -jnp.log(jax.nn.softmax(logits))[jnp.arange(4), targets], logits
        )
        assert_close(value, expected_value)
        assert_close(gradient, expected_gradient)

    def test_extreme_bfloat16_logits(self):
        logits = jnp.array([[3e4, -3e4], [3e4, -3e4]], jnp.bfloat16)
        value, gradient = self.value_and_gradient(logits, jnp.array([0, 1]))
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, [0.0, 6e4], rtol=1e-2)
        np.testing.assert_array_equal(gradient, [[0, 0], [1, -1]])


class TestWeightedSum:
    targets = DistillTargets(TOKENS, teacher_at(2.0), LabelTargets(LABEL_IDS, LABEL_LOGPROBS))
    weights = LossTerms(*WEIGHTS)

    def loss(self, hidden, head):
        return distill_loss(hidden, head, self.targets, self.weights, temperature=2.0)

    def test_terms_and_sum_equal_the_oracle(self):
        teacher = self.targets.teacher
        assert teacher is not None

        def oracle(hidden, head):
            logits = hidden @ head.T
            ce = -jnp.log(jax.nn.softmax(logits))[jnp.arange(ROWS), TOKENS]
            forward_kl = ORACLES["forward_kl"](
                collapse(jax.nn.softmax(logits / 2), teacher.top_k_ids),
                collapse(softmax(TEACHER_LOGITS, 2.0), teacher.top_k_ids),
            )
            label_kl = [
                ORACLES["forward_kl"](jax.nn.softmax(logits[row, ids]), np.array(probs))
                for row, (ids, probs) in enumerate(
                    [(np.array([3, 8, 21]), [0.5, 0.3, 0.2])] * 4
                    + [(np.array([17, 2]), [0.9, 0.1])]
                )
            ]
            return jnp.stack([ce, forward_kl, jnp.array([*label_kl, 0.0])])

        value, gradients = in_float64(
            lambda hidden, head: jnp.sum(WEIGHTS * oracle(hidden, head)), HIDDEN, HEAD
        )
        grad = jax.jit(jax.value_and_grad(self.loss, argnums=(0, 1), has_aux=True))
        (loss, terms), got_gradients = grad(HIDDEN, HEAD)
        assert_close(loss, value)
        assert_close(jnp.stack(terms), in_float64(oracle, HIDDEN, HEAD)[0])
        for got, expected in zip(got_gradients, gradients, strict=True):
            assert_close(got, expected)

    def test_terms_carry_no_gradient(self):
        gradient = jax.grad(lambda hidden: jnp.sum(self.loss(hidden, HEAD)[1].ce))(HIDDEN)
        assert not gradient.any()

    def test_cross_entropy_alone(self):
        loss, terms = distill_loss(HIDDEN, HEAD, DistillTargets(TOKENS), LossTerms(jnp.ones(ROWS)))
        expected = optax.softmax_cross_entropy_with_integer_labels(HIDDEN @ HEAD.T, TOKENS)
        np.testing.assert_allclose(terms.ce, expected, rtol=1e-5)
        np.testing.assert_allclose(loss, jnp.sum(expected), rtol=1e-6)
        assert terms.divergence is None
        assert terms.label_kl is None

    def test_temperature_may_be_traced(self):
        weights = LossTerms(jnp.ones(ROWS), jnp.ones(ROWS))
        loss = functools.partial(
            distill_loss, HIDDEN, HEAD, DistillTargets(TOKENS, teacher_at(2.0)), weights
        )
        traced = jax.jit(lambda temperature: loss(temperature=temperature)[0])(2.0)
        np.testing.assert_allclose(traced, loss(temperature=2.0)[0], rtol=1e-6)

    @pytest.mark.parametrize(
        ("targets", "weights", "message"),
        [
            (
                DistillTargets(TOKENS),
                LossTerms(jnp.ones(ROWS), divergence=jnp.ones(ROWS)),
                "The term divergence has weights but no targets; give both or neither.",
            ),
            (
                targets,
                LossTerms(jnp.ones(ROWS), divergence=jnp.ones(ROWS)),
                "The term label_kl has targets but no weights; give both or neither.",
            ),
        ],
    )
    def test_weights_and_targets_must_match(self, targets, weights, message):
        with pytest.raises(ValueError, match=message):
            distill_loss(HIDDEN, HEAD, targets, weights)
