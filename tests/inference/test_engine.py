"""The engine against the plain forward pass, on one device and on a mesh of eight."""

import functools
import logging
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sentidistill_jax.inference import steps
from sentidistill_jax.inference.engine import Engine, GenerateRequest, ScoreRequest
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.models.hf import load_decoder, read_hf_directory
from sentidistill_jax.sharding import make_mesh

# 101 tokens, 3 kv heads (which two devices do not share evenly), up to 256 positions.
_MODEL = pathlib.Path(__file__).parents[1] / "golden" / "llama_untied"
VOCAB = 101
K = 5


def _mesh(name):
    if name == "one device":
        return make_mesh({}, jax.devices()[:1])
    return make_mesh({"data": 2, "fsdp": 2, "tensor": 2})


@functools.cache
def _decoder(mesh_name, dtype=jnp.float32):
    config, tensors = read_hf_directory(_MODEL)
    return load_decoder(config, tensors, _mesh(mesh_name), dtype=dtype)


@functools.cache
def _engine(mesh_name, **options):
    return Engine(_decoder(mesh_name, **options), _mesh(mesh_name), pad_id=0, tokens_per_batch=512)


@pytest.fixture(params=["one device", "2x2x2"])
def engine(request):
    return _engine(request.param)


@pytest.fixture
def one_device():
    return _engine("one device")


@functools.cache
def _forward():
    graphdef, state = nnx.split(_decoder("one device"))

    @jax.jit
    def logprobs(tokens):
        model = nnx.merge(graphdef, state)
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        hidden, _ = model(tokens, positions)
        return jax.nn.log_softmax(model.logits(hidden[0]), axis=-1)

    return logprobs


def _dense(tokens):
    """Logprobs [seq, vocab] of the plain forward pass; row t predicts position t + 1."""
    padded = np.zeros((1, 264), np.int32)  # later tokens change nothing before them
    padded[0, : len(tokens)] = tokens
    return np.asarray(_forward()(padded), np.float64)[: len(tokens)]


def _texts(lengths, shared=0, seed=0):
    rng = np.random.default_rng(seed)
    beginning = rng.integers(1, VOCAB, shared)
    return [
        np.concatenate([beginning, rng.integers(1, VOCAB, length)]).astype(np.int32)
        for length in lengths
    ]


def _requests(texts, count=2):
    """Asks for the last tokens of each text, with the token itself and a fixed one chosen."""
    return [
        ScoreRequest(
            text, len(text) - count, count,
            np.stack([text[-count:], np.full(count, 7), np.full(count, -1)], axis=1),
        )
        for text in texts
    ]  # fmt: skip


def _check_scores(scored, texts, count=2, atol=1e-4):
    assert sorted(scored) == list(range(len(texts)))
    for index, text in enumerate(texts):
        got, dense = scored[index], _dense(text)[-count - 1 : -1]
        descending = -np.sort(-dense, axis=-1)
        np.testing.assert_allclose(got.top_k_logprobs, descending[:, :K], atol=atol)
        np.testing.assert_array_equal(got.chosen_ids[:, 0], text[-count:])
        rows = np.arange(count)[:, None]
        np.testing.assert_allclose(
            got.chosen_logprobs[:, :2], dense[rows, got.chosen_ids[:, :2]], atol=atol
        )
        assert np.isneginf(got.chosen_logprobs[:, 2]).all()
        rest = dense.copy()
        rest[rows, got.top_k_ids] = -np.inf
        rest[rows, got.chosen_ids[:, :2]] = -np.inf
        np.testing.assert_allclose(
            got.tail_logprobs[:, 0], np.logaddexp.reduce(rest, axis=-1), atol=atol
        )


# --- scoring ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [0, 40])
def test_scores_are_those_of_the_plain_forward_pass(engine, shared):
    texts = _texts([3, 29, 5, 17, 3, 60, 9], shared)
    _check_scores(dict(engine.score(_requests(texts), k=K)), texts)


def test_the_first_positions_can_be_scored(one_device):
    text = _texts([9])[0]
    request = ScoreRequest(text[:4], 1, 4, np.zeros((4, 1), np.int32))
    ((_, scored),) = one_device.score([request], k=K)
    expected = -np.sort(-_dense(text)[:4], axis=-1)[:, :K]
    np.testing.assert_allclose(scored.top_k_logprobs, expected, atol=1e-4)


@pytest.mark.parametrize("lengths", [(129, 2), (130, 2), (193, 2), (194, 2), (257, 2)])
def test_scores_at_the_edges_of_row_lengths(one_device, lengths):
    texts = _texts(lengths)
    _check_scores(dict(one_device.score(_requests(texts, count=1), k=K)), texts, count=1)


def test_a_shared_beginning_changes_no_score(engine):
    texts = _texts([4, 11, 30], shared=33)
    requests = _requests(texts)
    together = dict(engine.score(requests, k=K))
    stranger = _requests(_texts([5], seed=9))
    apart = dict(engine.score(requests + stranger, k=K))
    for index in range(3):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), together[index], apart[index]
        )


def test_a_request_that_asks_about_the_shared_beginning_is_answered(one_device):
    """The prefix must end before the first position that is asked for."""
    texts = _texts([4, 4], shared=64)
    requests = [
        ScoreRequest(texts[0], 40, 2, texts[0][40:42, None]),
        ScoreRequest(texts[1], 66, 2, texts[1][66:68, None]),
    ]
    scored = dict(one_device.score(requests, k=K))
    for index, request in enumerate(requests):
        dense = _dense(texts[index])[request.start - 1 : request.start + 1]
        expected = dense[[0, 1], request.chosen[:, 0]]
        np.testing.assert_allclose(scored[index].chosen_logprobs[:, 0], expected, atol=1e-4)


def test_a_score_does_not_depend_on_its_batch(engine):
    texts = _texts([3, 29, 5, 17, 3, 60, 9], seed=4)
    requests = _requests(texts)
    together = dict(engine.score(requests, k=K))
    for index in (0, 5):
        ((_, alone),) = engine.score([requests[index]], k=K)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), alone, together[index]
        )


def test_many_requests_in_several_batches(one_device):
    texts = _texts(np.random.default_rng(5).integers(3, 60, 40))
    _check_scores(dict(one_device.score(_requests(texts), k=K)), texts)


def test_bfloat16_scores_are_near_those_of_float32():
    """The dtype of large teachers: parameters, cache and prefix are all rounded."""
    texts = _texts([4, 11, 30], shared=33)
    _check_scores(
        dict(_engine("one device", dtype=jnp.bfloat16).score(_requests(texts), k=K)),
        texts, atol=0.2,
    )  # fmt: skip


# --- generation ---------------------------------------------------------------------------------


def _generate(engine, prompts, *, stop_ids=(), stop_sequences=(), k=0, seeds=None, **sampling: Any):
    seeds = seeds or [0] * len(prompts)
    requests = [GenerateRequest(p, seed) for p, seed in zip(prompts, seeds, strict=True)]
    config = SamplingConfig(**{"max_new_tokens": 8, **sampling})
    stops = {"stop_ids": stop_ids, "stop_sequences": stop_sequences}
    return dict(engine.generate(requests, config, **stops, k=k))


@pytest.mark.parametrize("shared", [0, 40])
def test_greedy_tokens_are_the_likeliest_of_the_plain_forward_pass(engine, shared):
    prompts = _texts([3, 29, 5, 17, 16], shared, seed=1)
    generated = _generate(engine, prompts)
    assert sorted(generated) == list(range(5))
    for index, prompt in enumerate(prompts):
        tokens = generated[index].tokens
        assert tokens.shape == (8,) and not generated[index].stopped
        dense = _dense(np.concatenate([prompt, tokens]))[len(prompt) - 1 : -1]
        np.testing.assert_array_equal(dense.argmax(axis=-1), tokens)
        assert generated[index].distribution is None


@pytest.mark.parametrize("length", [1, 15, 16, 17])
def test_generation_at_the_edges_of_padded_lengths(one_device, length):
    (prompt,) = _texts([length], seed=2)
    tokens = _generate(one_device, [prompt])[0].tokens
    dense = _dense(np.concatenate([prompt, tokens]))[length - 1 : -1]
    np.testing.assert_array_equal(dense.argmax(axis=-1), tokens)


def test_the_distribution_returned_is_what_scoring_the_same_tokens_gives(engine):
    prompts = _texts([3, 29, 5], seed=3)
    chosen = np.array([7, 8], np.int32)
    requests = [GenerateRequest(p, i, chosen) for i, p in enumerate(prompts)]
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=8)
    temperatures = (1.0, 2.0)
    generated = dict(
        engine.generate(requests, sampling, stop_ids=[], k=K, temperatures=temperatures)
    )
    again = []
    for index, prompt in enumerate(prompts):
        tokens = generated[index].tokens
        wanted = np.concatenate([tokens[:, None], np.tile(chosen, (8, 1))], axis=1)
        again.append(ScoreRequest(np.concatenate([prompt, tokens]), len(prompt), 8, wanted))
    for index, scored in engine.score(again, k=K, temperatures=temperatures):
        got = generated[index].distribution
        np.testing.assert_array_equal(got.top_k_ids, scored.top_k_ids)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), got, scored)


def test_a_sample_depends_on_its_prompt_and_seed_alone(engine):
    prompts = _texts([3, 29, 5, 17, 3, 12, 9], seed=4)
    settings: dict[str, Any] = {"temperature": 1.0, "top_p": 0.9}
    together = _generate(engine, prompts, seeds=list(range(7)), **settings)
    alone = _generate(engine, prompts[2:3], seeds=[2], **settings)[0]
    np.testing.assert_array_equal(alone.tokens, together[2].tokens)
    other = _generate(engine, prompts[2:3], seeds=[9], **settings)[0]
    assert not np.array_equal(other.tokens, alone.tokens)


def test_a_mesh_draws_what_one_device_draws(one_device):
    prompts = _texts([3, 29, 5], shared=40, seed=5)
    settings: dict[str, Any] = {"temperature": 1.0, "top_p": 0.9, "seeds": [1, 2, 3]}
    expected = _generate(one_device, prompts, **settings)
    for index, got in _generate(_engine("2x2x2"), prompts, **settings).items():
        np.testing.assert_array_equal(got.tokens, expected[index].tokens)


def test_a_stop_token_ends_its_row_and_no_other(one_device):
    prompts = _texts([3, 29, 5], seed=6)
    free = _generate(one_device, prompts, k=K)
    stop = next(int(t) for t in free[1].tokens[2:] if t not in free[0].tokens)
    first = {i: np.flatnonzero(free[i].tokens == stop)[:1] for i in free}
    stopped = _generate(one_device, prompts, stop_ids=[stop, 0], k=K)
    for index, generation in stopped.items():
        length = int(first[index][0]) + 1 if first[index].size else 8
        np.testing.assert_array_equal(generation.tokens, free[index].tokens[:length])
        assert generation.stopped == bool(first[index].size)
        assert generation.distribution is not None
        assert generation.distribution.tail_logprobs.shape == (length, 1)
        np.testing.assert_array_equal(generation.distribution.chosen_ids[:, 0], generation.tokens)


def test_a_stop_sequence_ends_its_row_where_all_of_it_has_been_written(one_device):
    (prompt, other) = _texts([9, 12], seed=6)
    free = _generate(one_device, [prompt, other])
    stop = free[0].tokens[3:6].tolist()
    # Its first token alone, or half of it, ends nothing.
    never = [stop[0], stop[0] + 1, stop[1]]
    stopped = _generate(one_device, [prompt, other], stop_ids=(), stop_sequences=[never, stop])
    assert len(stopped[0].tokens) == 6 and stopped[0].stopped
    np.testing.assert_array_equal(stopped[0].tokens, free[0].tokens[:6])
    np.testing.assert_array_equal(stopped[1].tokens, free[1].tokens)
    assert not stopped[1].stopped


def test_nothing_is_computed_after_the_last_row_has_ended(one_device, monkeypatch):
    (prompt,) = _texts([5], seed=7)
    sampling = {"max_new_tokens": 40}
    tokens = _generate(one_device, [prompt], **sampling)[0].tokens
    counted, decode = [], steps.decode
    monkeypatch.setattr(steps, "decode", lambda *a, **b: counted.append(a) or decode(*a, **b))
    _generate(one_device, [prompt], **sampling)
    assert len(counted) == -(-39 // 8)  # calls of 8 tokens; the prompt itself gives the first
    counted.clear()
    stopped = _generate(one_device, [prompt], stop_ids=[int(tokens[2])], **sampling)[0]
    assert stopped.stopped and len(counted) <= 1


def test_many_prompts_in_several_batches(one_device):
    prompts = _texts(np.random.default_rng(8).integers(3, 20, 30), seed=8)
    generated = _generate(one_device, prompts)
    assert sorted(generated) == list(range(30))
    for index in (0, 13, 29):
        alone = _generate(one_device, [prompts[index]])[0]
        np.testing.assert_array_equal(alone.tokens, generated[index].tokens)


# --- both ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mesh_name", ["one device", "2x2x2"])
def test_a_few_programs_serve_prompts_of_any_length(mesh_name, caplog):
    """What is compiled for many lengths, beginnings, stops and numbers of prompts."""
    engine = Engine(_decoder(mesh_name), _mesh(mesh_name), pad_id=0, tokens_per_batch=512)

    def compiled(seed):
        rng = np.random.default_rng(seed)
        texts = _texts(rng.integers(3, 100, 40), shared=int(rng.integers(24, 50)), seed=seed)
        texts += _texts(rng.integers(3, 110, 30), seed=seed + 100)
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
            list(engine.score(_requests(texts), k=K))
            _generate(engine, texts, stop_ids=range(1 + seed), k=K)
        return re.findall(r"Compiling jit\((\w+)\)", caplog.text)

    jax.clear_caches()
    first = compiled(0)
    with_model = [name for name in first if name in ("read", "distributions", "admit", "decode")]
    assert 4 <= len(with_model) <= 8, first
    assert len(first) <= 15, first  # the others make empty caches and choose rows
    assert not compiled(1) + compiled(2)


def test_no_mesh_stays_set_between_results(one_device):
    texts = _texts([3, 5])
    scores = one_device.score(_requests(texts), k=K)
    next(scores)
    assert jax.sharding.get_abstract_mesh().empty
    next(one_device.generate([GenerateRequest(texts[0])], SamplingConfig(), stop_ids=[]))
    assert jax.sharding.get_abstract_mesh().empty


def test_nothing_to_do_is_no_error(one_device):
    assert not list(one_device.score([], k=K))
    assert not list(one_device.generate([], SamplingConfig(), stop_ids=[]))


def test_a_text_that_is_too_long_for_the_model_is_refused(one_device):
    (text,) = _texts([250])
    with pytest.raises(ValueError, match=r"250 tokens and 8 new ones exceed .* max_position=256"):
        _generate(one_device, [text])
    (text,) = _texts([258])
    with pytest.raises(ValueError, match=r"257 tokens and 0 new ones exceed"):
        list(one_device.score(_requests([text], count=1), k=K))


def test_a_token_that_the_model_does_not_have_is_refused(one_device):
    with pytest.raises(ValueError, match=r"token id 101 is not in the model's vocabulary of 101"):
        _generate(one_device, [np.array([5, 101])])
