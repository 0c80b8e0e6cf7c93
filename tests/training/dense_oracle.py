"""The whole-vocabulary truth in float64, by which the float32 losses are judged."""

import jax
import jax.numpy as jnp
import numpy as np

from sentidistill_jax.training.distill_loss import SparseTeacher

BETA, SKEW = 0.5, 0.1  # the defaults of losses.jsd and of the skewed KLs


def _kl(p, q):
    return jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1) / q), 0), axis=-1)


def _jsd(q, p):
    middle = BETA * p + (1 - BETA) * q
    return BETA * _kl(p, middle) + (1 - BETA) * _kl(q, middle)


# Student probs, teacher probs -> one number per position, as the textbook has it.
DIVERGENCES = {
    "forward_kl": lambda q, p: _kl(p, q),
    "reverse_kl": lambda q, p: _kl(q, p),
    "jsd": _jsd,
    "skew_forward_kl": lambda q, p: _kl(p, SKEW * p + (1 - SKEW) * q),
    "skew_reverse_kl": lambda q, p: _kl(q, SKEW * q + (1 - SKEW) * p),
    "tvd": lambda q, p: jnp.sum(jnp.abs(p - q), axis=-1) / 2,
}


def in_float64(function, *args):
    """The function's value and its gradients in all arguments, computed in float64."""

    @jax.jit
    def value_and_gradients(*args):
        value, pullback = jax.vjp(function, *args)
        return value, pullback(jnp.ones_like(value))

    with jax.enable_x64(True):
        args = [jnp.asarray(arg, jnp.float64) for arg in args]
        return jax.tree.map(np.asarray, value_and_gradients(*args))


def collapse(probs, ids):
    """Probs of the tokens `ids` and, last, of all others together."""
    others = 1 - jnp.sum(jax.nn.one_hot(ids, probs.shape[-1]), axis=-2)
    tail = jnp.sum(probs * others, axis=-1, keepdims=True)
    return jnp.concatenate([jnp.take_along_axis(probs, ids, axis=-1), tail], axis=-1)


def softmax(logits, temperature=1.0):
    """Over the last axis, in float64 NumPy."""
    scaled = np.asarray(logits, np.float64) / temperature
    probs = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return probs / probs.sum(axis=-1, keepdims=True)


def cached_teacher(logits, k, temperature=1.0):
    """What a cache holds: logprobs at temperature 1, the tail at `temperature`, in float32."""
    ids = np.argsort(-np.asarray(logits), axis=-1)[..., :k].astype(np.int32)
    others = np.ones(logits.shape, bool)
    np.put_along_axis(others, ids, False, axis=-1)
    with np.errstate(divide="ignore"):  # no tail at k = vocab: log 0
        tail_logprob = np.log(np.sum(softmax(logits, temperature), axis=-1, where=others))
    logprobs = np.log(np.take_along_axis(softmax(logits), ids, axis=-1))
    return SparseTeacher(
        jnp.asarray(ids), jnp.asarray(logprobs, "float32"), jnp.asarray(tail_logprob, "float32")
    )


def random_normal(seed, *shape, scale=1.0):
    """The same float32 numbers for the same seed."""
    draws = np.random.default_rng(seed).normal(scale=scale, size=shape)
    return jnp.asarray(draws, jnp.float32)


def assert_close(got, expected, tolerance=1e-5):
    """Agreement to `tolerance` of each entry or of the largest, which must not be nothing."""
    largest = np.max(np.abs(expected))
    assert largest > 1e-3, f"the oracle gives no more than {largest}: the test is empty"
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * largest)
