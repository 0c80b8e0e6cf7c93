"""A loaded model as SentiBench's evaluator asks it: what it reads, and what counts as an answer."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import byte_tokenizer, random_decoder

from sentidistill_jax.inference.engine import Engine
from sentidistill_jax.inference.generation_settings import generation_settings
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.sharding import make_mesh

WORDS = (" negative", " positive")
PROMPTS = ["Sentence: good\nLabel:", "So it is, and so it was all the time.\nLabel:"]
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<model>"


@pytest.fixture(scope="module")
def model():
    mesh = make_mesh({}, jax.devices()[:1])
    tokenizer = byte_tokenizer(["negative", "positive"])
    engine = Engine(random_decoder(mesh), mesh, pad_id=0)
    return LocalModel(engine, tokenizer, generation_settings({}, tokenizer))


def with_penalty(model, penalty):
    settings = generation_settings({"repetition_penalty": penalty}, model.tokenizer)
    return dataclasses.replace(model, generation=settings)


def test_only_the_end_of_a_prompt_that_is_too_long_is_read(model):
    cut = dataclasses.replace(model, left_truncate_to=16)  # bytes, as each is a token
    assert cut.prompt_lengths(PROMPTS) == [len(prompt) for prompt in PROMPTS]
    ends = [prompt[-16:] for prompt in PROMPTS]
    found = cut.label_logprobs(PROMPTS, WORDS)
    np.testing.assert_allclose(found, model.label_logprobs(ends, WORDS), atol=1e-5)
    assert np.abs(found - model.label_logprobs(PROMPTS, WORDS)).max() > 1e-2
    assert cut.complete(PROMPTS, 4) == model.complete(ends, 4)


def test_a_chat_template_wraps_the_prompt_and_takes_the_space_from_the_words(model):
    model.tokenizer.chat_template = TEMPLATE
    chat = dataclasses.replace(model, chat_template=True)
    written = [f"<user>{prompt}<model>" for prompt in PROMPTS]
    assert chat.prompt_lengths(PROMPTS) == [len(text) for text in written]
    bare = [word.strip() for word in WORDS]
    np.testing.assert_allclose(
        chat.label_logprobs(PROMPTS, WORDS), model.label_logprobs(written, bare), atol=1e-5
    )


def test_the_checkpoints_repetition_penalty_changes_label_scores(model):
    """Of words that the prompt holds: logits, all negative or divided, fall."""
    prompts = ["It is positive\nLabel:", "It is negative\nLabel:"]
    plain, penal = (one.label_logprobs(prompts, WORDS) for one in (model, with_penalty(model, 9.0)))
    margin, penal_margin = (scores[:, 1] - scores[:, 0] for scores in (plain, penal))
    assert penal_margin[0] < margin[0] - 0.05 and penal_margin[1] > margin[1] + 0.05
