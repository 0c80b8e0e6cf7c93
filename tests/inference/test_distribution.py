"""What is kept of a distribution, against a dense float64 oracle."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sentidistill_jax.inference.distribution import sparse_distribution
from sentidistill_jax.sharding import make_mesh

ROWS, VOCAB = 5, 40
TEMPERATURES = (0.5, 1.0, 2.0)


def _log_softmax(logits):
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def _tail(logits, kept, temperature):
    rest = _log_softmax(logits / temperature)
    rest[sorted(set(kept) - {-1})] = -np.inf
    return np.logaddexp.reduce(rest)


def _check(logits, chosen, k, rtol=1e-5):
    got = sparse_distribution(
        jnp.asarray(logits, jnp.float32), jnp.asarray(chosen), k=k, temperatures=TEMPERATURES
    )
    got = jax.tree.map(np.asarray, got)
    logits = np.asarray(np.asarray(logits, np.float32), np.float64)
    logprobs = _log_softmax(logits)
    for row in range(len(logits)):
        descending = -np.sort(-logprobs[row])
        np.testing.assert_allclose(got.top_k_logprobs[row], descending[:k], rtol=rtol, atol=1e-6)
        np.testing.assert_allclose(
            logprobs[row, got.top_k_ids[row]], descending[:k], rtol=rtol, atol=1e-6
        )
        assert len(set(got.top_k_ids[row])) == k
        wanted = np.where(chosen[row] < 0, -np.inf, logprobs[row, chosen[row]])
        np.testing.assert_allclose(got.chosen_logprobs[row], wanted, rtol=rtol, atol=1e-6)
        np.testing.assert_array_equal(got.chosen_ids[row], chosen[row])
        tails = [_tail(logits[row], {*got.top_k_ids[row], *chosen[row]}, t) for t in TEMPERATURES]
        np.testing.assert_allclose(got.tail_logprobs[row], tails, rtol=rtol, atol=1e-6)
    return got


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(0, 3, (ROWS, VOCAB))


@pytest.mark.parametrize("k", [1, 7])
def test_random_distributions(logits, k):
    chosen = np.random.default_rng(1).integers(-1, VOCAB, (ROWS, 4)).astype(np.int32)
    _check(logits, chosen, k)


def test_a_chosen_token_in_the_top_k_or_chosen_twice_is_taken_from_the_tail_once(logits):
    likeliest = np.argsort(-logits, axis=-1)
    chosen = likeliest[:, [0, 10, 10, 2]].astype(np.int32)
    _check(logits, chosen, 3)


def test_padding_is_no_token(logits):
    padded = np.full((ROWS, 3), -1, np.int32)
    got = _check(logits, padded, 2)
    plain = _check(logits, np.zeros((ROWS, 0), np.int32), 2)
    np.testing.assert_array_equal(got.tail_logprobs, plain.tail_logprobs)


@pytest.mark.parametrize("gap", [20.0, 80.0, 200.0])
def test_a_tiny_tail_keeps_its_precision(gap):
    """1 minus the kept mass would be 0 in float32 from a gap of 17 on."""
    logits = np.random.default_rng(2).normal(0, 1, (ROWS, VOCAB))
    logits[:, :2] += gap
    got = _check(logits, np.full((ROWS, 1), -1, np.int32), 2)
    assert (got.tail_logprobs[:, 1] < 10 - gap).all()


def test_an_empty_tail_is_minus_infinity(logits):
    got = _check(logits, np.full((ROWS, 1), 3, np.int32), VOCAB)
    assert np.isneginf(got.tail_logprobs).all()


def test_low_precision_logits_are_reduced_in_float32(logits):
    rounded = jnp.asarray(logits, jnp.bfloat16)
    chosen = jnp.full((ROWS, 1), 3)
    got = sparse_distribution(rounded, chosen, k=2, temperatures=(1.0,))
    wide = sparse_distribution(rounded.astype(jnp.float32), chosen, k=2, temperatures=(1.0,))
    jax.tree.map(np.testing.assert_array_equal, got, wide)


def _split(parts):
    """The reduction as each of several devices does it for its part of the vocabulary."""
    mesh = make_mesh({"tensor": parts}, jax.devices()[:parts])

    def reduce(logits, chosen, keys, **options):
        local = functools.partial(sparse_distribution, vocab_axis="tensor", **options)
        specs = (jax.P(None, "tensor"), jax.P(), jax.P())
        split = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=jax.P(), check_vma=False)
        return split(logits, chosen, keys)

    return jax.jit(reduce, static_argnames=("k", "temperatures", "num_draws"))


_whole = jax.jit(sparse_distribution, static_argnames=("k", "temperatures", "num_draws"))


@pytest.mark.parametrize("k", [1, 7, 13])  # 13: more than a part of ten tokens holds
def test_a_vocabulary_in_parts_gives_what_the_whole_gives(logits, k):
    logits[0, [3, 13, 23, 33]] = logits[0].max() + 1  # equal in all parts
    chosen = np.random.default_rng(1).integers(-1, VOCAB, (ROWS, 4)).astype(np.int32)
    keys = jax.random.split(jax.random.key(0), ROWS)
    options = {"k": k, "temperatures": TEMPERATURES}
    whole = _whole(jnp.asarray(logits), jnp.asarray(chosen), keys, **options)
    split = _split(4)(jnp.asarray(logits), jnp.asarray(chosen), keys, **options)
    assert split.top_k_ids[0, : min(k, 4)].tolist() == [3, 13, 23, 33][:k]
    for name in ("top_k_ids", "chosen_ids"):
        np.testing.assert_array_equal(getattr(split, name), getattr(whole, name))
    for name in ("top_k_logprobs", "chosen_logprobs", "tail_logprobs"):
        np.testing.assert_allclose(getattr(split, name), getattr(whole, name), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("vocab", [40, 1200])  # part of a block, and several blocks
def test_draws_follow_the_distribution(parts, vocab):
    logits = np.random.default_rng(0).normal(0, 2, (1, vocab)).astype(np.float32)
    logits[0, 5] = -np.inf
    rows, num_draws = 50, 200
    keys = jax.random.split(jax.random.key(0), rows)
    none = jnp.full((rows, 1), -1)
    options = {"k": 1, "temperatures": (1.0,), "num_draws": num_draws}
    reduce = _split(parts) if parts > 1 else _whole
    draws = reduce(jnp.asarray(np.repeat(logits, rows, axis=0)), none, keys, **options).draws
    assert draws is not None and draws.shape == (rows, num_draws)
    probs = np.exp(_log_softmax(logits[0].astype(np.float64)))
    counts = np.bincount(np.asarray(draws).ravel(), minlength=vocab)
    assert counts[5] == 0
    expected = rows * num_draws * probs
    # Pearson's statistic over tokens that are expected often enough, the others as one.
    often = expected > 5
    counts, expected = (
        np.array([*values[often], values[~often].sum()]) for values in (counts, expected)
    )
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = often.sum()
    assert abs(statistic - freedom) < 4 * np.sqrt(2 * freedom)


def test_draws_of_a_row_depend_on_its_key_alone(logits):
    keys = jax.random.split(jax.random.key(0), ROWS)
    none = jnp.full((ROWS, 1), -1)
    options = {"k": 1, "temperatures": (1.0,), "num_draws": 20}
    whole = _whole(jnp.asarray(logits), none, keys, **options).draws
    alone = _whole(jnp.asarray(logits[2:3]), none[2:3], keys[2:3], **options).draws
    assert whole is not None and alone is not None
    np.testing.assert_array_equal(whole[2:3], alone)
    assert len({tuple(row) for row in np.asarray(whole).tolist()}) == ROWS


def test_only_candidates_and_sums_move_between_devices():
    """No collective of the compiled program carries a row of logits."""
    rows, vocab, k = 8, 4096, 5
    mesh = make_mesh({"tensor": 4}, jax.devices()[:4])
    reduce = jax.jit(
        functools.partial(_split(4), k=k, temperatures=(1.0, 2.0), num_draws=3),
        in_shardings=(jax.NamedSharding(mesh, jax.P(None, "tensor")), None, None),
    )
    arguments = (
        jnp.zeros((rows, vocab)), jnp.zeros((rows, 2), jnp.int32),
        jax.random.split(jax.random.key(0), rows),
    )  # fmt: skip
    program = reduce.lower(*arguments).compile().as_text()
    assert program is not None
    moved = [
        int(np.prod([int(size) for size in shape.split(",") if size] or [1]))
        for shape in re.findall(r"\w+\[([\d,]*)\]\S* (?:all-gather|all-reduce|all-to-all)", program)
    ]
    assert moved  # the walk finds them
    assert max(moved) <= rows * max(4 * k, vocab // 256)
