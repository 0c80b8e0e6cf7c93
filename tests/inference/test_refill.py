"""Refilled greedy rows against the plain forward pass, token by token."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sentidistill_jax.inference.engine import Engine, RefillConfig
from sentidistill_jax.models.hf import load_decoder, read_hf_directory
from sentidistill_jax.sharding import make_mesh

_MODEL = pathlib.Path(__file__).parents[1] / "golden" / "llama_untied"
VOCAB = 101
NEW = 90  # more than the slots between two moves, so that tokens are moved and the cache grows
PENALTY = 1.3


def _never(tokens):
    return False


@functools.cache
def _engine(mesh_name):
    mesh = make_mesh({}, jax.devices()[:1])
    if mesh_name == "2x2x2":
        mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    config, tensors = read_hf_directory(_MODEL)
    return Engine(load_decoder(config, tensors, mesh), mesh, pad_id=0, tokens_per_batch=512)


@functools.cache
def _forward():
    config, tensors = read_hf_directory(_MODEL)
    mesh = make_mesh({}, jax.devices()[:1])
    graphdef, state = nnx.split(load_decoder(config, tensors, mesh))

    @jax.jit
    def logits(tokens):
        model = nnx.merge(graphdef, state)
        hidden, _ = model(tokens, jnp.arange(tokens.shape[1])[None])
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


def _complete(mesh_name, ended=_never, *, stops=(), rows=4, group=2, new=NEW, penalty=1.0):
    config = RefillConfig(new, stops, rows=rows, group=group, repetition_penalty=penalty)
    return dict(_engine(mesh_name).complete(_prompts(), config, ended))


@pytest.mark.parametrize(
    ("mesh_name", "rows", "group"), [("one device", 4, 2), ("one device", 1, 1), ("2x2x2", 4, 4)]
)
def test_continuations_are_the_plain_ones_whatever_the_rows_and_the_mesh(mesh_name, rows, group):
    found = _complete(mesh_name, rows=rows, group=group)
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


def test_next_logprobs_are_those_of_the_penalised_logits():
    ids = np.array([5, 17, 99])
    config = RefillConfig(1, (), rows=4, group=2, repetition_penalty=PENALTY)
    found = dict(_engine("one device").next_logprobs(_prompts(), ids, config))
    for index, prompt in enumerate(_prompts()):
        padded = np.zeros((len(_prompts()), 256), np.int32)
        padded[0, : len(prompt)] = prompt
        logits = np.asarray(_forward()(padded), np.float64)[0, len(prompt) - 1]
        seen = np.unique(prompt)
        logits[seen] = np.where(logits[seen] < 0, logits[seen] * PENALTY, logits[seen] / PENALTY)
        expected = logits - np.logaddexp.reduce(logits)
        np.testing.assert_allclose(found[index], expected[ids], atol=1e-4)


def test_what_the_model_has_no_room_for_is_refused():
    config = RefillConfig(200, ())
    with pytest.raises(ValueError, match="a prompt of 110 tokens and 200 new ones exceed"):
        list(_engine("one device").complete(_prompts(), config, _never))


def test_windows_of_a_sliding_layer_follow_positions_not_slots():
    """Refilled and moved rows of Gemma 3, whose window is shorter than every prompt."""
    config, tensors = read_hf_directory(_MODEL.with_name("gemma3"))
    assert config.sliding_window is not None and config.sliding_window < 41
    mesh = make_mesh({}, jax.devices()[:1])
    model = load_decoder(config, tensors, mesh)
    prompts = [prompt % config.vocab_size for prompt in _prompts()[:5]]
    engine = Engine(model, mesh, pad_id=0, tokens_per_batch=512)
    found = dict(engine.complete(prompts, RefillConfig(12, (), rows=2, group=1), _never))
    graphdef, state = nnx.split(model)

    @jax.jit
    def logits(tokens):
        model = nnx.merge(graphdef, state)
        return model.logits(model(tokens, jnp.arange(tokens.shape[1])[None])[0])

    for index, prompt in enumerate(prompts):
        text = np.zeros((1, 128), np.int32)
        written = [*prompt, *found[index].tokens]
        text[0, : len(written)] = written
        # Each token is the likeliest one after the tokens before it.
        drawn = np.asarray(logits(text))[0, len(prompt) - 1 : len(written) - 1].argmax(axis=-1)
        assert found[index].tokens.tolist() == drawn.tolist()
