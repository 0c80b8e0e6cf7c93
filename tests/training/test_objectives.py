"""The objective of packed rows against a dense account of each sequence alone, in float64."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from dense_oracle import random_normal
from helpers import KINDS, TINY, assert_trees_close, random_cache

from sentidistill_jax.data.loader import BatchShape, PackedBatches, iterate
from sentidistill_jax.data.teacher_cache import open_cache
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.training import losses
from sentidistill_jax.training.objectives import (
    CachedObjective,
    Normalizers,
    StudentOutput,
    make_objective,
)

SIZES = [(5, 4), (7, 5), (2, 4), (8, 6), (10, 1), (9, 7), (6, 3)]
ROWS, SEQ, SCORED, EMBED = 3, 40, 18, 8
OBJECTIVE = CachedObjective(name="icldist", alpha=0.4, temperature=2.0, label_weight=0.7)
HEAD = random_normal(1, TINY.vocab_size, EMBED)
HIDDEN = random_normal(2, ROWS, SEQ, EMBED)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return open_cache(random_cache(tmp_path_factory.mktemp("objective") / "cache", SIZES))


@pytest.fixture(scope="module")
def batches(cache):
    """Temperatures -> the batch of all sequences."""

    def at(temperatures):
        shape = BatchShape(ROWS, SEQ, SCORED)
        options = {"epochs": 1, "seed": 0, "calibrate_answers": False}
        packed = PackedBatches([cache], shape, temperatures=temperatures, **options)
        assert len(packed) == 1
        (batch,) = iterate(packed, make_mesh({}, jax.devices()[:1]), start_step=0)
        return batch

    return {temperatures: at(temperatures) for temperatures in ((1.0,), (2.0,), (2.0, 1.0))}


@functools.partial(jax.jit, static_argnames="objective")
def loss_of(hidden, batch, *, objective, progress=0.0, head=HEAD):
    scored = jnp.take_along_axis(hidden, batch.scored[:, :, None], axis=1)
    return objective.loss(
        StudentOutput(scored, head),
        objective.teacher_signal(None, batch, progress),
        batch,
        Normalizers.of(batch),
        progress=progress,
        num_kinds=len(KINDS),
        mesh=None,
    )


def totals(metrics):
    return {
        f"{name} {part}": np.asarray(sums)
        for name, mean in metrics.items()
        for part, sums in mean._asdict().items()
    }


@pytest.fixture(scope="module")
def dense(cache, batches):
    """Every record with the student's logits [completion, vocab] for it."""
    batch = jax.device_get(batches[(1.0,)])
    by_tokens = {}
    for row in range(ROWS):
        for segment in range(1, batch.segment_ids[row].max() + 1):
            here = batch.segment_ids[row] == segment
            by_tokens[tuple(batch.tokens[row, here])] = np.asarray(HIDDEN, np.float64)[row, here]
    records = [cache[index] for index in range(len(cache))]
    return [
        (record, by_tokens[tuple(record.tokens)][record.completion_start - 1 : -1] @ HEAD.T)
        for record in records
    ]


def log_softmax(logits):
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def cross_entropies(record, logits):
    targets = record.tokens[record.completion_start :]
    return -log_softmax(logits)[np.arange(len(targets)), targets]


def divergences(record, logits, temperature, column):
    """Forward KL over the kept tokens and all others together, at a temperature."""
    ids, logprobs = record.targets.pad(int(record.targets.counts.max()))
    tail = record.targets.tail_logprobs[:, column].astype(np.float64)
    kept = log_softmax(logprobs.astype(np.float64) / temperature) + np.log1p(-np.exp(tail))[:, None]
    student = log_softmax(logits / temperature)
    student_kept = np.take_along_axis(student, ids, axis=-1)
    student_tail = np.log1p(-np.exp(student_kept).sum(axis=-1))
    of_kept = (np.exp(kept) * (kept - student_kept)).sum(axis=-1)
    return of_kept + np.exp(tail) * (tail - student_tail)


def label_kls(record, logits):
    labels = record.labels
    if labels is None:
        return np.zeros((0,))
    student = log_softmax(logits[labels.position, labels.ids])
    return np.array([(np.exp(labels.logprobs) * (labels.logprobs - student)).sum()])


def mean(values):
    return np.concatenate(values).mean()


def test_alpha_0_is_the_mean_cross_entropy_of_the_completion_tokens(batches, dense):
    loss, _ = loss_of(HIDDEN, batches[(1.0,)], objective=CachedObjective(alpha=0))
    assert float(loss) == pytest.approx(mean([cross_entropies(*one) for one in dense]), rel=1e-5)


@pytest.mark.parametrize(("temperature", "column"), [(1.0, 0), (2.0, 1)])
def test_alpha_1_is_the_mean_divergence_times_the_squared_temperature(
    batches, dense, temperature, column
):
    objective = CachedObjective(alpha=1, temperature=temperature)
    loss, _ = loss_of(HIDDEN, batches[(temperature,)], objective=objective)
    expected = temperature**2 * mean(
        [divergences(record, logits, temperature, column) for record, logits in dense]
    )
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_the_loss_weighs_its_three_terms(batches, dense):
    loss, _ = loss_of(HIDDEN, batches[(2.0,)], objective=OBJECTIVE)
    answers = mean([label_kls(*one) for one in dense])
    assert answers > 0.1
    expected = (
        0.6 * mean([cross_entropies(*one) for one in dense])
        + 0.4 * 2.0**2 * mean([divergences(record, logits, 2.0, 1) for record, logits in dense])
        + 0.7 * answers
    )
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_metrics_are_unweighted_sums_per_kind(batches, dense):
    _, metrics = loss_of(HIDDEN, batches[(2.0,)], objective=OBJECTIVE)
    kinds = sorted(KINDS)
    names = ("tokens", "answers", "ce_nats", "divergence_nats", "label_kl_nats")
    expected = {name: np.zeros((len(kinds),)) for name in names}
    for record, logits in dense:
        kind = kinds.index(record.kind)
        expected["tokens"][kind] += len(logits)
        expected["answers"][kind] += record.labels is not None
        expected["ce_nats"][kind] += cross_entropies(record, logits).sum()
        expected["divergence_nats"][kind] += divergences(record, logits, 2.0, 1).sum()
        expected["label_kl_nats"][kind] += label_kls(record, logits).sum()
    assert (expected["answers"] > 0).tolist() == [False, True, False]
    metrics = jax.device_get(metrics)
    for name, count in (
        ("ce_nats", "tokens"), ("divergence_nats", "tokens"), ("label_kl_nats", "answers")
    ):  # fmt: skip
        got = {name: metrics[name].total, count: metrics[name].count}
        assert_trees_close(got, {name: expected[name], count: expected[count]}, 1e-5)


def test_knowdist_has_no_label_term(batches):
    loss, metrics = loss_of(
        HIDDEN, batches[(2.0,)], objective=dataclasses.replace(OBJECTIVE, label_weight=0.0)
    )
    knowdist = dataclasses.replace(OBJECTIVE, name="knowdist", label_weight=0.0)
    without, fewer = loss_of(HIDDEN, batches[(2.0,)], objective=knowdist)
    assert float(without) == pytest.approx(float(loss), rel=1e-6)
    assert set(metrics) - set(fewer) == {"label_kl_nats"}


def test_text_only_has_the_gradient_of_plain_cross_entropy(batches):
    """Alpha 0 against autodiff through all logits: the sequence-level distillation of the paper."""
    batch = batches[(1.0,)]

    def plain(hidden, head):
        at = jnp.take_along_axis(hidden, batch.scored[:, :, None], axis=1)
        losses = optax.softmax_cross_entropy_with_integer_labels(at @ head.T, batch.targets)
        return jnp.sum(losses * batch.loss_mask) / jnp.sum(batch.loss_mask)

    def ours(hidden, head):
        return loss_of(hidden, batch, objective=CachedObjective(alpha=0.0), head=head)[0]

    for got, expected in zip(
        jax.grad(ours, (0, 1))(HIDDEN, HEAD), jax.grad(plain, (0, 1))(HIDDEN, HEAD), strict=True
    ):
        assert_trees_close({"gradient": got}, {"gradient": expected}, 1e-5)


class TestDivergences:
    def test_a_new_one_is_an_entry(self, batches, monkeypatch):
        def twice_the_kl(student_logprobs, teacher_logprobs):
            return 2 * losses.forward_kl(student_logprobs, teacher_logprobs)

        monkeypatch.setitem(losses.DIVERGENCES, "twice_the_kl", twice_the_kl)
        once, twice = (
            loss_of(HIDDEN, batches[(1.0,)], objective=CachedObjective(alpha=1, divergence=name))
            for name in ("forward_kl", "twice_the_kl")
        )
        assert float(twice[0]) == pytest.approx(2 * float(once[0]), rel=1e-6)

    @pytest.mark.parametrize(("name", "unit"), [("jsd", "nats"), ("tvd", "mass")])
    def test_metrics_end_in_their_unit(self, batches, name, unit):
        objective = CachedObjective(divergence=name)
        _, metrics = loss_of(HIDDEN, batches[(1.0,)], objective=objective)
        assert set(metrics) == {"ce_nats", f"divergence_{unit}"}


class TestWeights:
    def test_weigh_a_position_and_leave_count_and_metrics(self, batches):
        batch, objective = batches[(2.0,)], dataclasses.replace(OBJECTIVE, alpha=0.0)
        weighted = dataclasses.replace(
            batch, loss_weights=jnp.where(batch.kind_ids == 1, 3.0, 0.5) * batch.loss_mask
        )
        loss, metrics = loss_of(HIDDEN, weighted, objective=objective)
        _, unweighted = loss_of(HIDDEN, batch, objective=objective)
        assert_trees_close(totals(metrics), totals(unweighted), 1e-6)
        factors = np.array([0.5, 3.0, 0.5])
        ce, label_kl = metrics["ce_nats"], metrics["label_kl_nats"]
        expected = (factors * ce.total).sum() / ce.count.sum()
        expected += 0.7 * (factors * label_kl.total).sum() / label_kl.count.sum()
        assert float(loss) == pytest.approx(float(expected), rel=1e-5)


class TestSchedules:
    def test_alpha_goes_along_lines(self):
        objective = CachedObjective(alpha=0.2, alpha_schedule=((0.5, 0.8), (0.75, 0.4)))
        got = [float(objective.alpha_at(progress)) for progress in (0, 0.25, 0.5, 0.625, 0.75, 1)]
        assert got == pytest.approx([0.2, 0.5, 0.8, 0.6, 0.4, 0.4])

    def test_temperature_jumps_and_takes_its_own_tail_mass(self, batches):
        objective = CachedObjective(alpha=0.7, temperature=2.0, temperature_schedule=((0.5, 1.0),))
        assert objective.temperatures == (2.0, 1.0)
        for progress, temperature in ((0.0, 2.0), (0.49, 2.0), (0.5, 1.0), (0.9, 1.0)):
            got, _ = loss_of(HIDDEN, batches[(2.0, 1.0)], objective=objective, progress=progress)
            constant = CachedObjective(alpha=0.7, temperature=temperature)
            expected, _ = loss_of(HIDDEN, batches[(temperature,)], objective=constant)
            assert float(got) == pytest.approx(float(expected), rel=1e-6)

    def test_what_never_changes_is_known_when_traced(self):
        objective = CachedObjective(alpha=0.3)
        assert objective.alpha_at(jnp.array(0.5)) == 0.3
        assert objective.temperature_index_at(jnp.array(0.5)) == 0


def test_a_batch_without_answers_has_a_finite_loss_and_no_label_term(batches):
    batch = dataclasses.replace(
        batches[(2.0,)], label_ids=-jnp.ones_like(batches[(2.0,)].label_ids)
    )
    loss, metrics = loss_of(HIDDEN, batch, objective=OBJECTIVE)
    without, _ = loss_of(
        HIDDEN, batches[(2.0,)], objective=dataclasses.replace(OBJECTIVE, label_weight=0.0)
    )
    assert float(loss) == pytest.approx(float(without), rel=1e-6)
    assert not any(sums.any() for sums in metrics["label_kl_nats"])


def test_padding_has_no_gradient(batches):
    gradient = jax.grad(lambda hidden: loss_of(hidden, batches[(2.0,)], objective=OBJECTIVE)[0])(
        HIDDEN
    )
    padding = np.asarray(batches[(2.0,)].segment_ids) == 0
    assert padding.any() and not np.asarray(gradient)[padding].any()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "kd"}, r"objective.name='kd' must be one of \['knowdist', 'icldist'\]"),
        ({"divergence": "wasserstein"}, "objective.divergence='wasserstein' must be one of"),
        ({"alpha": 1.5}, r"got alpha \[1.5\].*expected alpha in \[0, 1\]"),
        ({"alpha_schedule": ((1.0, -0.5),)}, r"got alpha \[0.5, -0.5\]"),
        ({"temperature": 0.0}, r"temperature \[0.0\].*temperature > 0"),
        ({"temperature_schedule": ((0.5, 0.0),)}, r"temperature \[1.0, 0.0\]"),
        ({"label_weight": -1.0}, "label_weight=-1.0.*label_weight >= 0"),
        ({"label_weight": 1.0}, "label_weight=1.0 has no effect with objective.name='knowdist'"),
        ({"alpha_schedule": ((0.5, 0.1), (0.5, 0.2))}, "alpha_schedule=.* rise within"),
        ({"alpha_schedule": ((1.5, 0.1),)}, "alpha_schedule=.* rise within"),
        ({"temperature_schedule": ((0.0, 2.0),)}, "temperature_schedule=.* rise within"),
        ({"temperature_schedule": ((0.5,),)}, "temperature_schedule=.* pairs"),
    ],
)
def test_objectives_that_mean_nothing(settings, message):
    with pytest.raises(ValueError, match=message):
        make_objective({"name": "knowdist", **settings})


def test_a_teacher_without_a_tail_excludes_a_divergence_that_is_infinite_then():
    with pytest.raises(ValueError, match="'reverse_kl' is infinite .*renormalize_top_k=False"):
        CachedObjective(divergence="reverse_kl", renormalize_top_k=True)
    for name in ("forward_kl", "jsd", "skew_forward_kl", "skew_reverse_kl", "tvd"):
        CachedObjective(divergence=name, renormalize_top_k=True)


@pytest.mark.parametrize(
    ("divergence", "fault"), [("reverse_kl", "infinite"), ("jsd", "biased"), ("tvd", "biased")]
)
def test_draws_serve_the_forward_kl_alone(divergence, fault):
    with pytest.raises(ValueError, match=f"'{divergence}' is {fault} with a cache of mode"):
        CachedObjective(divergence=divergence, sampled=True)
    CachedObjective(sampled=True)


def test_a_renormalised_teacher_is_the_kept_entries_alone(batches, dense):
    loss, _ = loss_of(
        HIDDEN, batches[(1.0,)], objective=CachedObjective(alpha=1, renormalize_top_k=True)
    )
    total = 0.0
    for record, logits in dense:
        ids, logprobs = record.targets.pad(int(record.targets.counts.max()))
        teacher = log_softmax(logprobs.astype(np.float64))
        student = np.take_along_axis(log_softmax(logits), ids, axis=-1)
        total += (np.exp(teacher) * (teacher - student)).sum()
    tokens = sum(len(record.targets.counts) for record, _ in dense)
    np.testing.assert_allclose(loss, total / tokens, rtol=1e-5)


def test_sampled_gradients_are_those_of_the_shares(batches):
    """Against the cross entropy with the shares as soft labels, which is linear in them."""
    batch = batches[(1.0,)]
    shares = jax.nn.softmax(batch.top_k_logprobs, axis=-1)  # any shares that add up to 1
    drawn = dataclasses.replace(
        batch,
        top_k_logprobs=jnp.log(shares),
        tail_logprobs=jnp.full_like(batch.tail_logprobs, -jnp.inf),
    )
    objective = CachedObjective(alpha=1, sampled=True)
    got = jax.grad(lambda hidden: loss_of(hidden, drawn, objective=objective)[0])(HIDDEN)

    def soft_cross_entropy(hidden):
        scored = jnp.take_along_axis(hidden, batch.scored[:, :, None], axis=1)
        logprobs = jax.nn.log_softmax(scored @ HEAD.T, axis=-1)
        kept = jnp.take_along_axis(logprobs, batch.top_k_ids, axis=-1)
        rows = -(shares * jnp.where(shares > 0, kept, 0.0)).sum(axis=-1) * batch.loss_mask
        return rows.sum() / batch.loss_mask.sum()

    expected = jax.grad(soft_cross_entropy)(HIDDEN)
    np.testing.assert_allclose(got, expected, atol=1e-6)
