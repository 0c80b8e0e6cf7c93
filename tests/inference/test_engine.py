"""The engine against the plain forward pass, with a tiny random decoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sentidistill_jax.inference.engine import Engine, GenerateRequest, ScoreRequest
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.models.config import PRESETS
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.sharding import make_mesh

CONFIG = PRESETS["tiny"]


@pytest.fixture(scope="module")
def decoder():
    model = Decoder(CONFIG, nnx.Rngs(0))
    # Larger weights than at initialisation, so that predictions differ between positions.
    graphdef, state = nnx.split(model)
    return nnx.merge(graphdef, jax.tree.map(lambda leaf: leaf * 2.5, state))


@pytest.fixture(scope="module")
def engine(decoder):
    mesh = make_mesh({}, jax.devices()[:1])
    return Engine(decoder, mesh, pad_id=0, tokens_per_batch=512)


def _logprobs(decoder, tokens):
    hidden, _ = decoder(jnp.asarray(tokens)[None], jnp.arange(len(tokens))[None])
    return np.asarray(jax.nn.log_softmax(decoder.logits(hidden[0]), axis=-1))


def _sequences(count, shared, seed=0):
    rng = np.random.default_rng(seed)
    beginning = rng.integers(1, CONFIG.vocab_size, shared)
    return [
        np.concatenate([beginning, rng.integers(1, CONFIG.vocab_size, length)]).astype(np.int32)
        for length in rng.integers(3, 30, count)
    ]


@pytest.mark.parametrize("shared", [0, 40])
def test_scores_equal_the_plain_forward_pass(engine, decoder, shared):
    sequences = _sequences(7, shared)
    requests = [ScoreRequest(tokens, len(tokens) - 2, 2, tokens[-2:, None]) for tokens in sequences]
    scored = dict(engine.score(requests, k=5))
    assert sorted(scored) == list(range(7))
    for index, tokens in enumerate(sequences):
        dense = _logprobs(decoder, tokens)[-3:-1]
        kept = scored[index]
        np.testing.assert_allclose(
            kept.chosen_logprobs[:, 0], dense[[0, 1], tokens[-2:]], atol=1e-4
        )
        np.testing.assert_allclose(kept.top_k_logprobs, -np.sort(-dense, axis=-1)[:, :5], atol=1e-4)
        mass = np.exp(dense).astype(np.float64)
        outside = np.ones_like(mass, bool)
        for row in range(2):
            outside[row, [*kept.top_k_ids[row], tokens[row - 2]]] = False
        np.testing.assert_allclose(
            np.exp(kept.tail_logprobs[:, 0]), (mass * outside).sum(axis=-1), atol=1e-5
        )


@pytest.mark.parametrize("shared", [0, 40])
def test_greedy_generation_equals_the_argmax_of_the_plain_forward_pass(engine, decoder, shared):
    prompts = _sequences(5, shared, seed=1)
    sampling = SamplingConfig(max_new_tokens=6)
    generated = dict(
        engine.generate([GenerateRequest(p) for p in prompts], sampling, stop_ids=[0], k=3)
    )
    for index, prompt in enumerate(prompts):
        tokens = prompt
        for step, token in enumerate(generated[index].tokens):
            dense = _logprobs(decoder, tokens)[-1]
            assert token == dense.argmax()
            distribution = generated[index].distribution
            assert distribution.chosen_logprobs[step, 0] == pytest.approx(dense.max(), abs=1e-4)
            tokens = np.append(tokens, token).astype(np.int32)
        assert generated[index].stopped == (tokens[-1] == 0)


def test_a_sample_depends_on_its_prompt_and_seed_only(engine):
    prompts = _sequences(4, 0, seed=2)
    sampling = SamplingConfig(temperature=1.0, top_p=0.9, max_new_tokens=5)
    requests = [GenerateRequest(prompt, seed=i) for i, prompt in enumerate(prompts)]
    together = dict(engine.generate(requests, sampling, stop_ids=[]))
    alone = dict(engine.generate(requests[2:3], sampling, stop_ids=[]))
    np.testing.assert_array_equal(together[2].tokens, alone[0].tokens)
    other = dict(engine.generate([GenerateRequest(prompts[2], seed=9)], sampling, stop_ids=[]))
    assert not np.array_equal(other[0].tokens, alone[0].tokens)
