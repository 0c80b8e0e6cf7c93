"""Attention to a cache and a prefix, query by query from the definition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sentidistill_jax.cpu_workarounds import bitcast_to_words
from sentidistill_jax.models import cached_attention
from sentidistill_jax.models.cached_attention import attend_cached
from sentidistill_jax.models.kv_cache import EMPTY, KVCache, SharedPrefix

_SCALE = 0.3
_ROWS, _QUERIES, _HEADS, _GROUPS, _DIM, _SLOTS = 2, 4, 2, 3, 8, 16
_LAYERS, _LAYER = 2, 1


def _random(*shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _by_definition(query, keys, values, sees, softcap):
    """Attention to keys and values [rows, heads, keys, dim], of which a query sees some."""
    mixed = np.zeros(query.shape)
    for b, q, h, g in np.ndindex(query.shape[:-1]):
        seen = [k for k in range(keys.shape[2]) if sees(b, q, k)]
        scores = np.array([query[b, q, h, g] @ keys[b, h, k] * _SCALE for k in seen])
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        weights = np.exp(scores - scores.max())
        mixed[b, q, h, g] = weights @ values[b, h][seen] / weights.sum()
    return mixed


@functools.cache
def _compiled(blocks: str):
    """Serves all cases of the same shapes; the size of blocks, `blocks`, is read when tracing."""
    return jax.jit(functools.partial(attend_cached, scale=_SCALE), static_argnames="softcap")


@pytest.fixture(params=["one block", "blocks of 4"])
def attend(request, monkeypatch):
    if request.param == "blocks of 4":
        monkeypatch.setattr(cached_attention, "_BLOCK", {"cpu": 4})
    return _compiled(request.param)


@pytest.mark.parametrize("window", [None, 1, 4, 9])
@pytest.mark.parametrize("softcap", [None, 0.7])
@pytest.mark.parametrize(
    ("prefix_tokens", "prefixes"), [(None, 1), (0, 1), (3, 1), (8, 1), (3, 2), (8, 2)]
)
@pytest.mark.parametrize(("used", "reach"), [(0, 0), (7, 7), (16, 16), (21, 9), (21, 16)])
def test_own_tokens_cache_and_prefix_are_mixed_by_one_softmax(
    attend, window, softcap, prefix_tokens, prefixes, used, reach
):
    query = _random(_ROWS, _QUERIES, _HEADS, _GROUPS, _DIM, seed=1)
    key, value = (_random(_ROWS, _HEADS, _QUERIES, _DIM, seed=seed) for seed in (2, 3))
    stacks = [_random(_LAYERS, _ROWS, _HEADS, _SLOTS, _DIM, seed=seed) for seed in (4, 5)]
    start = prefix_tokens or 0
    # The latest slots of each row hold its text so far, the second row has a shorter one.
    places = np.full((_ROWS, _SLOTS), EMPTY)
    for row, length in enumerate((reach, max(0, reach - 3))):
        for back in range(length):
            places[row, (used - 1 - back) % _SLOTS] = start + length - 1 - back
    lengths = [reach, max(0, reach - 3)]
    positions = np.array([start + length + np.arange(_QUERIES) for length in lengths])
    cache = KVCache(
        jnp.asarray(stacks[0]), jnp.asarray(stacks[1]), jnp.asarray(places), jnp.int32(used),
        jnp.int32(reach),
    )  # fmt: skip
    prefix, before = None, [np.zeros((_ROWS, _HEADS, 0, _DIM), np.float32)] * 2
    if prefix_tokens is not None:
        # As many beginnings as there are rows, or one for all; what they hold ends at slot 8.
        held = [_random(_LAYERS, prefixes, _HEADS, 12, _DIM, seed=seed) for seed in (6, 7)]
        held_at = np.full((prefixes, 12), EMPTY)
        held_at[:, 8 - prefix_tokens : 8] = np.arange(prefix_tokens)
        key_stack, value_stack = map(jnp.asarray, held)
        prefix = SharedPrefix(key_stack, value_stack, jnp.asarray(held_at), jnp.int32(8))
        before = [
            np.repeat(stack[_LAYER][:, :, 8 - prefix_tokens : 8], _ROWS // prefixes, axis=0)
            for stack in held
        ]
    got = attend(
        jnp.asarray(query), jnp.asarray(key), jnp.asarray(value), jnp.asarray(positions),
        layer=jnp.int32(_LAYER), cache=cache, prefix=prefix,
        window=None if window is None else jnp.int32(window), softcap=softcap,
    )  # fmt: skip
    keys, values = (
        np.concatenate([beginning, stack[_LAYER], own], axis=2)
        for beginning, stack, own in zip(before, stacks, (key, value), strict=True)
    )
    everywhere = np.concatenate([np.tile(np.arange(start), (_ROWS, 1)), places, positions], axis=1)

    def sees(b, q, k):
        distance = positions[b, q] - everywhere[b, k]
        return distance >= 0 and (window is None or distance < window)

    expected = _by_definition(query, keys, values, sees, softcap)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_cache_of_words_is_read_as_what_it_holds():
    shape = (_LAYERS, 1, _HEADS, _SLOTS, _DIM)
    stacks = [jnp.asarray(_random(*shape, seed=seed), jnp.bfloat16) for seed in (1, 2)]
    places, used = jnp.arange(_SLOTS)[None], jnp.int32(_SLOTS)
    own = jnp.asarray(_random(1, _HEADS, 1, _DIM, seed=3))
    query = jnp.asarray(_random(1, 1, _HEADS, _GROUPS, _DIM, seed=4))

    def attend(key, value):
        return attend_cached(
            query, own, own, jnp.full((1, 1), _SLOTS), layer=jnp.int32(0), prefix=None,
            cache=KVCache(key, value, places, used, used), scale=_SCALE,
        )  # fmt: skip

    plain = [stack.astype(jnp.float32) for stack in stacks]
    np.testing.assert_allclose(attend(*map(bitcast_to_words, stacks)), attend(*plain), atol=1e-2)
