"""Continuous batching against the plain forward pass, token by token."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sentidistill_jax.inference.engine import Engine, GenerateRequest, ScoreRequest
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.models.hf import load_decoder, read_hf_directory
from sentidistill_jax.sharding import make_mesh

_MODEL = pathlib.Path(__file__).parents[1] / "golden" / "llama_untied"
VOCAB = 101
NEW = 90  # with a prompt more than the slots of a row hold at first, so that the ring goes round
PENALTY = 1.3


@functools.cache
def _engine(mesh_name, rows=4):
    mesh = make_mesh({}, jax.devices()[:1])
    if mesh_name == "2x2x2":
        mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    config, tensors = read_hf_directory(_MODEL)
    decoder = load_decoder(config, tensors, mesh)
    return Engine(decoder, mesh, pad_id=0, tokens_per_batch=128, max_num_seqs=rows)


@functools.cache
def _forward():
    config, tensors = read_hf_directory(_MODEL)
    mesh = make_mesh({}, jax.devices()[:1])
    graphdef, state = nnx.split(load_decoder(config, tensors, mesh))

    @jax.jit
    def logits(tokens):
        model = nnx.merge(graphdef, state)
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        hidden, _ = model(tokens, positions)
        return model.logits(hidden)

    return logits


def _prompts():
    """Of one beginning, which is read once, and of lengths on both sides of a chunk."""
    rng = np.random.default_rng(0)
    shared = rng.integers(1, VOCAB, 40)
    return [
        np.concatenate([shared, rng.integers(1, VOCAB, length)]).astype(np.int32)
        for length in (3, 70, 32, 33, 1, 20, 64)
    ]


@functools.cache
def _expected(penalty):
    """Greedy continuations of the prompts, each step by a whole forward pass."""
    prompts = _prompts()
    texts = [prompt.tolist() for prompt in prompts]
    for _ in range(NEW):
        padded = np.zeros((len(texts), 256), np.int32)
        for row, text in enumerate(texts):
            padded[row, : len(text)] = text
        logits = np.asarray(_forward()(padded))
        for row, text in enumerate(texts):
            scores = logits[row, len(text) - 1].copy()
            seen = np.unique(text)
            scores[seen] = np.where(
                scores[seen] < 0, scores[seen] * penalty, scores[seen] / penalty
            )
            text.append(int(scores.argmax()))
    return [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]


def _complete(mesh_name, is_complete=None, *, stops=(), rows=4, new=NEW, penalty=1.0):
    sampling = SamplingConfig(max_new_tokens=new, repetition_penalty=penalty)
    requests = [GenerateRequest(prompt) for prompt in _prompts()]
    generate = _engine(mesh_name, rows).generate
    return dict(generate(requests, sampling, stop_ids=stops, is_complete=is_complete))


@pytest.mark.parametrize(
    ("mesh_name", "rows"), [("one device", 4), ("one device", 1), ("2x2x2", 4)]
)
def test_continuations_are_the_plain_ones_whatever_the_rows_and_the_mesh(mesh_name, rows):
    found = _complete(mesh_name, rows=rows)
    assert sorted(found) == list(range(len(_prompts())))
    for index, expected in enumerate(_expected(1.0)):
        assert found[index].tokens.tolist() == expected
        assert not found[index].stopped


def test_the_repetition_penalty_counts_prompt_and_continuation():
    expected = _expected(PENALTY)
    assert expected != _expected(1.0)
    found = _complete("one device", penalty=PENALTY)
    assert [found[index].tokens.tolist() for index in range(len(expected))] == expected


def test_rows_end_where_they_are_complete_or_stop():
    expected = _expected(1.0)
    stop = expected[0][5]

    def ended(tokens):
        return len(tokens) >= 9

    found = _complete("one device", ended, stops=(stop,))
    for index, whole in enumerate(expected):
        cut = whole[:9]
        if stop in cut:
            cut = cut[: cut.index(stop) + 1]
        assert found[index].tokens.tolist() == cut
        assert found[index].stopped
    assert len(found[0].tokens) < 9  # both ends were met


def test_the_budget_is_kept_to_the_token():
    found = _complete("one device", new=6)
    for index, whole in enumerate(_expected(1.0)):
        assert found[index].tokens.tolist() == whole[:6] and not found[index].stopped


def test_scores_with_a_penalty_are_those_of_the_penalized_logits():
    ids = np.array([[5, 17, 99]], np.int32)
    requests = [ScoreRequest(prompt, len(prompt), 1, ids) for prompt in _prompts()]
    found = dict(_engine("one device").score(requests, k=1, repetition_penalty=PENALTY))
    for index, prompt in enumerate(_prompts()):
        padded = np.zeros((len(_prompts()), 256), np.int32)
        padded[0, : len(prompt)] = prompt
        logits = np.asarray(_forward()(padded), np.float64)[0, len(prompt) - 1]
        seen = np.unique(prompt)
        logits[seen] = np.where(logits[seen] < 0, logits[seen] * PENALTY, logits[seen] / PENALTY)
        expected = logits - np.logaddexp.reduce(logits)
        np.testing.assert_allclose(found[index].chosen_logprobs[0], expected[ids[0]], atol=1e-4)


def test_a_penalty_over_several_positions_is_refused():
    request = ScoreRequest(_prompts()[0], 3, 2, np.zeros((2, 1), np.int32))
    with pytest.raises(ValueError, match=r"repetition_penalty=1.3 needs requests of count=1"):
        list(_engine("one device").score([request], k=1, repetition_penalty=PENALTY))


def test_what_the_model_has_no_room_for_is_refused():
    with pytest.raises(ValueError, match="a prompt of 110 tokens and 200 new ones exceed"):
        _complete("one device", new=200)


def test_groups_of_other_beginnings_are_written_side_by_side():
    """More beginnings than are at hand at one time, of which some are of one prompt."""
    rng = np.random.default_rng(3)
    prompts = []
    for size in (5, 3, 4, 1, 3, 3, 3, 3, 3, 3, 6, 1):
        beginning = rng.integers(1, VOCAB, 30 + size)
        prompts += [
            np.concatenate([beginning, rng.integers(1, VOCAB, 2 + number)]).astype(np.int32)
            for number in range(size)
        ]
    sampling = SamplingConfig(max_new_tokens=6)
    requests = [GenerateRequest(prompt) for prompt in prompts]
    found = dict(_engine("one device", rows=16).generate(requests, sampling))
    assert sorted(found) == list(range(len(prompts)))
    for index, prompt in enumerate(prompts):
        written = np.concatenate([prompt, found[index].tokens])
        padded = np.zeros((1, 256), np.int32)
        padded[0, : len(written)] = written
        drawn = np.asarray(_forward()(padded))[0, len(prompt) - 1 : len(written) - 1]
        assert found[index].tokens.tolist() == drawn.argmax(axis=-1).tolist()


def test_windows_of_a_sliding_layer_follow_positions_not_slots():
    """Rows of Gemma 3 that start late in the ring, with a window shorter than every prompt."""
    config, tensors = read_hf_directory(_MODEL.with_name("gemma3"))
    assert config.sliding_window is not None and config.sliding_window < 41
    mesh = make_mesh({}, jax.devices()[:1])
    model = load_decoder(config, tensors, mesh)
    prompts = [prompt % config.vocab_size for prompt in _prompts()[:5]]
    engine = Engine(model, mesh, pad_id=0, tokens_per_batch=128, max_num_seqs=2)
    requests = [GenerateRequest(prompt) for prompt in prompts]
    found = dict(engine.generate(requests, SamplingConfig(max_new_tokens=12)))
    graphdef, state = nnx.split(model)

    @jax.jit
    def logits(tokens):
        model = nnx.merge(graphdef, state)
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        return model.logits(model(tokens, positions)[0])

    for index, prompt in enumerate(prompts):
        text = np.zeros((1, 128), np.int32)
        written = [*prompt, *found[index].tokens]
        text[0, : len(written)] = written
        # Each token is the likeliest one after the tokens before it.
        drawn = np.asarray(logits(text))[0, len(prompt) - 1 : len(written) - 1].argmax(axis=-1)
        assert found[index].tokens.tolist() == drawn.tolist()
