"""A loaded model that answers: what it reads, what it says of labels, and where an answer ends."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import byte_tokenizer, random_model

from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.language_model import AnswerSettings
from sentidistill_jax.sharding import make_mesh

WORDS = (" negative", " positive")
PROMPTS = ["Sentence: good\nLabel:", "So it is, and so it was all the time.\nLabel:"]
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<model>"


@pytest.fixture
def model():
    mesh = make_mesh({}, jax.devices()[:1])
    loaded = random_model(mesh, byte_tokenizer(["negative", "positive"]))
    return LocalModel.on_mesh(loaded, mesh, tokens_per_batch=2048)


def test_label_scores_are_logprobs_whatever_the_order_of_lengths(model):
    prompts = [*PROMPTS, "A longer one than all of the others that are asked here.\nLabel:", ":"]
    scores = model.label_logprobs(prompts, WORDS)
    assert scores.shape == (4, 2) and scores.dtype == np.float32
    ids = [model.tokenizer(word)["input_ids"][0] for word in WORDS]
    decoder = model.loaded.decoder
    tokens = [model.tokenizer(prompt)["input_ids"] for prompt in prompts]
    padded = np.zeros((4, 64), np.int32)
    for row, one in zip(padded, tokens, strict=True):
        row[: len(one)] = one
    positions = jnp.broadcast_to(jnp.arange(64)[None], padded.shape)
    hidden, _ = jax.jit(lambda tokens: decoder(tokens, positions))(padded)
    logprobs = np.asarray(jax.nn.log_softmax(decoder.logits(hidden), axis=-1))
    expected = [logprobs[row, len(one) - 1, ids] for row, one in enumerate(tokens)]
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_an_answer_ends_before_a_stop_text_or_as_soon_as_it_is_complete(model):
    (whole,) = model.complete(PROMPTS[:1], 12)
    assert not whole.finished
    stop = whole.text[6]
    (stopped,) = model.complete(PROMPTS[:1], 12, stop=(stop,))
    assert stopped.finished and stopped.text == whole.text[: whole.text.index(stop)]
    (complete,) = model.complete(PROMPTS[:1], 12, is_complete=lambda text: stop in text)
    assert complete.finished and complete.text == whole.text[: whole.text.index(stop) + 1]


def test_what_scores_say_of_it(model):
    assert model.name == model.origin["source"] == "random"
    assert model.origin["weights"] == model.loaded.fingerprint
    assert model.decoding["repetition_penalty"] == 1 and "stop_ids" not in model.decoding
    penal = model.with_settings(AnswerSettings(repetition_penalty=2.0))
    assert penal.decoding["repetition_penalty_from"] == "setting"
    assert penal.origin == model.origin


def test_only_the_end_of_a_prompt_that_is_too_long_is_read(model):
    cut = model.with_settings(AnswerSettings(left_truncate_to=16))  # bytes, each a token
    assert cut.prompt_lengths(PROMPTS) == [len(prompt) for prompt in PROMPTS]
    ends = [prompt[-16:] for prompt in PROMPTS]
    found = cut.label_logprobs(PROMPTS, WORDS)
    np.testing.assert_allclose(found, model.label_logprobs(ends, WORDS), atol=1e-5)
    assert np.abs(found - model.label_logprobs(PROMPTS, WORDS)).max() > 1e-2
    assert cut.complete(PROMPTS, 4) == model.complete(ends, 4)


def test_a_chat_template_wraps_the_prompt_and_takes_the_space_from_the_words(model):
    with pytest.raises(ValueError, match="needs a tokenizer with a chat template"):
        model.with_settings(AnswerSettings(chat_template=True))
    model.tokenizer.chat_template = TEMPLATE
    chat = model.with_settings(AnswerSettings(chat_template=True))
    written = [f"<user>{prompt}<model>" for prompt in PROMPTS]
    assert chat.prompt_lengths(PROMPTS) == [len(text) for text in written]
    bare = [word.strip() for word in WORDS]
    np.testing.assert_allclose(
        chat.label_logprobs(PROMPTS, WORDS), model.label_logprobs(written, bare), atol=1e-5
    )


def test_the_checkpoints_repetition_penalty_changes_label_scores_where_it_is_wanted(model):
    """Of words that the prompt holds: logits, all negative or divided, fall."""
    loaded = dataclasses.replace(model.loaded, generation={"repetition_penalty": 9.0})
    model = dataclasses.replace(model, loaded=loaded)
    prompts = ["It is positive\nLabel:", "It is negative\nLabel:"]
    penal = model.with_settings(AnswerSettings()).label_logprobs(prompts, WORDS)
    plain = model.label_logprobs(prompts, WORDS)
    margin, penal_margin = (scores[:, 1] - scores[:, 0] for scores in (plain, penal))
    assert penal_margin[0] < margin[0] - 0.05 and penal_margin[1] > margin[1] + 0.05
