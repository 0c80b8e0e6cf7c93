"""One function, several kernels: what the reference sees, and that the others see the same."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sentidistill_jax.models import attention
from sentidistill_jax.models.attention import Visibility, attend
from sentidistill_jax.sharding import make_mesh

_SCALE = 0.3


def _random(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def _inputs(rows=2, length=12, kv_heads=2, groups=3, head_dim=8) -> Any:
    return (
        _random((rows, length, kv_heads, groups, head_dim), 1),
        _random((rows, kv_heads, length, head_dim), 2),
        _random((rows, kv_heads, length, head_dim), 3),
    )


def _by_loops(query, key, value, sees, softcap=None):
    """Attention of every query on its own, by the definition."""
    rows, length, kv_heads, groups, head_dim = query.shape
    mixed = np.zeros(query.shape, np.float64)
    for b, q, h, g in np.ndindex(rows, length, kv_heads, groups):
        keys = [k for k in range(key.shape[2]) if sees(b, q, k)]
        scores = np.array([np.dot(query[b, q, h, g], key[b, h, k]) * _SCALE for k in keys])
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        weights = np.exp(scores - scores.max())
        mixed[b, q, h, g] = weights @ np.asarray(value[b, h])[keys] / weights.sum()
    return mixed


def _packed(rows=2, length=12):
    segment_ids = np.repeat([[1, 2, 0]], [5, 5, 2], axis=1).repeat(rows, axis=0)
    positions = np.array([[*range(5), *range(5), 0, 0]] * rows)
    return jnp.asarray(segment_ids), jnp.asarray(positions)


@pytest.mark.parametrize("window", [None, 1, 3])
@pytest.mark.parametrize("softcap", [None, 0.7])
def test_a_query_sees_its_segment_up_to_itself_through_the_window(window, softcap):
    query, key, value = _inputs()
    segment_ids, positions = _packed()
    got = attend(
        query, key, value, Visibility(positions, segment_ids=segment_ids), scale=_SCALE,
        window=window, softcap=softcap, implementation="xla",
    )  # fmt: skip

    def sees(b, q, k):
        near = window is None or q - k < window
        return k <= q and near and segment_ids[b, q] == segment_ids[b, k]

    np.testing.assert_allclose(got, _by_loops(query, key, value, sees, softcap), atol=1e-5)


@pytest.mark.parametrize("window", [None, 1, 3, 7])
def test_blocks_of_queries_make_no_difference(window, monkeypatch):
    segment_ids, positions = _packed()
    visibility = Visibility(positions, segment_ids=segment_ids)

    def reference(q, k, v):
        return attention._xla(q, k, v, visibility, _SCALE, window, None)

    operands = _inputs()
    whole = _with_gradients(reference, *operands)
    monkeypatch.setattr(attention, "_QUERY_BLOCK", 5)
    _assert_equal(_with_gradients(reference, *operands), whole, 1e-5)


def _with_gradients(function, *operands: Any):
    weights = _random(operands[0].shape, 9)
    return jax.value_and_grad(lambda *x: jnp.sum(function(*x) * weights), (0, 1, 2))(*operands)


def _assert_equal(got, expected, tolerance):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("packed", [False, True])
def test_what_cudnn_is_asked_for_is_what_the_reference_computes(window, packed):
    """The call that cuDNN answers, answered by XLA."""
    segment_ids, positions = _packed()
    visibility = Visibility(positions, segment_ids=segment_ids if packed else None)

    def through(implementation):
        if implementation == "reference":
            return lambda q, k, v: attention._xla(q, k, v, visibility, _SCALE, window, None)
        return lambda q, k, v: attention._dot_product(q, k, v, visibility, _SCALE, window, "xla")

    operands = _inputs()
    _assert_equal(
        _with_gradients(through("dot_product"), *operands),
        _with_gradients(through("reference"), *operands),
        1e-4,
    )


@pytest.mark.parametrize("options", [{}, {"window": 40}, {"softcap": 0.7}])
def test_the_splash_kernel_interpreted_is_the_reference(options):
    rows, length = 1, 256
    segment_ids = jnp.asarray(np.repeat([[1, 2, 0]], [100, 120, 36], axis=1))
    visibility = Visibility(jnp.zeros((rows, length), jnp.int32), segment_ids=segment_ids)
    window, softcap = options.get("window"), options.get("softcap")
    operands = _inputs(rows, length, kv_heads=1, groups=2, head_dim=16)

    def splash(q, k, v):
        return attention._splash(q, k, v, visibility, _SCALE, window, softcap, interpret=True)

    def reference(q, k, v):
        return attention._xla(q, k, v, visibility, _SCALE, window, softcap)

    _assert_equal(_with_gradients(splash, *operands), _with_gradients(reference, *operands), 2e-3)


def test_the_splash_kernel_is_split_over_rows_and_heads():
    operands = _inputs(rows=2, length=128, kv_heads=2, groups=2, head_dim=16)
    visibility = Visibility(jnp.zeros((2, 128), jnp.int32))
    query, key, value = operands
    expected = attend(query, key, value, visibility, scale=_SCALE, implementation="xla")
    with jax.set_mesh(make_mesh({"data": 2, "tensor": 2}, jax.devices()[:4])):
        got = jax.jit(
            lambda q, k, v: attention._splash(
                q, k, v, visibility, _SCALE, None, None, interpret=True
            )
        )(*operands)
    assert {shard.data.shape for shard in got.addressable_shards} == {(1, 128, 1, 2, 16)}
    np.testing.assert_allclose(got, expected, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("packed", [False, True])
def test_cudnn_is_the_reference(window, packed):
    if jax.default_backend() != "gpu":
        pytest.skip("no CUDA device")
    query, key, value = (x.astype(jnp.bfloat16) for x in _inputs(2, 128, 2, 2, 64))
    segment_ids = jnp.asarray(np.repeat([[1, 2]], [60, 68], axis=1).repeat(2, axis=0))
    visibility = Visibility(
        jnp.zeros((2, 128), jnp.int32), segment_ids=segment_ids if packed else None
    )
    got, expected = (
        attend(query, key, value, visibility, scale=0.1, window=window, implementation=name)
        for name in ("cudnn", "xla")
    )
    np.testing.assert_allclose(got.astype(jnp.float32), expected.astype(jnp.float32), atol=2e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"implementation": "flash"}, r"attention='flash' must be one of \['auto', 'xla', 'cudnn'"),
        ({"implementation": "cudnn", "softcap": 1.0}, r"attention='cudnn' has no soft-cap"),
        ({"implementation": "splash"}, r"attention='splash' needs rows of a multiple of 128 .* 12"),
    ],
)
def test_what_an_implementation_cannot_compute_is_refused(options, message):
    query, key, value = _inputs()
    with pytest.raises(ValueError, match=message):
        attend(query, key, value, Visibility(jnp.zeros((2, 12), jnp.int32)), scale=1.0, **options)
