"""Which tokens can be drawn, and how often."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentidistill_jax.inference.sampling import SamplingConfig, sample

DRAWS, VOCAB = 64, 6


@functools.cache
def _sampler(config):
    keys = jax.random.split(jax.random.key(0), DRAWS)
    return jax.jit(lambda logits: sample(jnp.tile(logits[None], (DRAWS, 1)), keys, config))


def _drawn(logits, **settings):
    tokens = _sampler(SamplingConfig(**settings))(np.asarray(logits, np.float32))
    assert tokens.dtype == jnp.int32
    return np.asarray(tokens)


def _probs(logits, temperature=1.0):
    scaled = np.asarray(logits, np.float64) / temperature
    return np.exp(scaled - np.logaddexp.reduce(scaled))


# Whole numbers, so that ties are common.
_LOGITS = st.lists(st.integers(-4, 4), min_size=VOCAB, max_size=VOCAB)


@settings(deadline=None, max_examples=60)
@given(_LOGITS, st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([0.5, 1.0]))
def test_top_p_draws_from_the_smallest_covering_set_and_its_ties(logits, top_p, temperature):
    probs = _probs(logits, temperature)
    descending = np.sort(probs)[::-1]
    before = np.cumsum(descending) - descending
    # A thousandth of slack: at the border itself rounding decides.
    least = descending[before < top_p + 1e-3].min()
    allowed = set(np.flatnonzero(probs >= least * (1 - 1e-6)))
    assert set(_drawn(logits, temperature=temperature, top_p=top_p)) <= allowed


def test_all_of_several_tied_tokens_can_be_drawn():
    assert set(_drawn([0, 5, 5, 5, 0, 0], temperature=1.0, top_p=0.1)) == {1, 2, 3}


def test_a_top_p_below_the_largest_probability_leaves_one_token():
    assert set(_drawn([0, 1, 2, 3, 1, 0], temperature=1.0, top_p=0.01)) == {3}


def test_a_top_p_of_one_leaves_every_token():
    assert set(_drawn([0, 0, 0, 0.5, 0, 0], temperature=1.0)) == set(range(VOCAB))


@settings(deadline=None, max_examples=60)
@given(_LOGITS, st.sampled_from([0.05, 0.3, 1.0]), st.sampled_from([0.5, 1.0]))
def test_min_p_draws_nothing_far_less_likely_than_the_likeliest(logits, min_p, temperature):
    probs = _probs(logits, temperature)
    allowed = set(np.flatnonzero(probs >= min_p * probs.max() * (1 - 1e-5)))
    assert set(_drawn(logits, temperature=temperature, min_p=min_p)) <= allowed


def test_min_p_leaves_what_is_likely_enough():
    assert set(_drawn([0, 0.5, 0.5, 0.2, -9, -9], temperature=1.0, min_p=0.5)) == {0, 1, 2, 3}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_as_often_as_their_probabilities_say(temperature):
    logits = np.array([0.0, 1.0, 2.0, -1.0, 0.5, -2.0])
    rows = 4000
    keys = jax.random.split(jax.random.key(1), rows)
    tiled = jnp.tile(jnp.asarray(logits, jnp.float32)[None], (rows, 1))
    tokens = sample(tiled, keys, SamplingConfig(temperature=temperature))
    shares = np.bincount(np.asarray(tokens), minlength=VOCAB) / rows
    probs = _probs(logits, temperature)
    assert (np.abs(shares - probs) < 4 * np.sqrt(probs * (1 - probs) / rows)).all()


def test_temperature_zero_takes_the_likeliest_and_the_first_of_several():
    assert set(_drawn([0, 1, 3, 3, 1, 0])) == {2}


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"min_p": -0.1},
        {"min_p": 1.1},
        {"max_new_tokens": 0},
    ],
)
def test_impossible_settings_are_refused(fields):
    with pytest.raises(ValueError, match="expected temperature >= 0, top_k >= 0, 0 < top_p"):
        SamplingConfig(**fields)
