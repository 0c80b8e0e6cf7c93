"""A served model completes prompts and scores label words, from lists or from its text."""

import numpy as np
import pytest
from helpers import byte_tokenizer
from served_model import ToyModel, serving

from sentidistill_jax.endpoint.labels import score_answers
from sentidistill_jax.endpoint.model import EndpointModel
from sentidistill_jax.endpoint.protocol import Answer, GarbledAnswerError, parse_answer
from sentidistill_jax.endpoint.settings import EndpointSettings

MODEL = ToyModel(byte_tokenizer(["positive", "negative"]))
WORDS = (" positive", " negative")
PROMPTS = [f"Review: {number}\nSentiment" for number in range(5)]  # no colon: random logits


@pytest.fixture
def server():
    with serving(MODEL) as server:
        yield server


def model_of(server, **settings):
    return EndpointModel(EndpointSettings(server.url, api_key_env="", **settings))


def said(text, candidates=None):
    tokens = [] if candidates is None else [["", candidates]]
    values = dict(model="m", text=text, finish_reason="stop", tokens=tokens, prompt=[])
    return Answer.from_dict(values | {"prompt_tokens": None, "completion_tokens": 1})


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_completes_up_to_the_stop(server, api):
    prompts = [f"{number} is:" for number in range(6)]
    model = model_of(server, api=api)
    texts = [one.text for one in model.complete(prompts, 40, stop=("\n",))]
    expected = [MODEL.answer(prompt).rstrip("\n") for prompt in prompts]
    assert texts == [text.strip() if api == "chat" else text for text in expected]
    assert len(set(texts)) > 1
    (short,) = model_of(server).complete(prompts[:1], 3)
    assert (short.text, short.finished) == (MODEL.answer(prompts[0])[:3], None)


def test_label_words_have_the_models_logprobs_where_they_are_listed(server):
    server.max_logprobs = 1000
    scores = model_of(server, top_logprobs=len(MODEL.tokenizer)).label_scores(PROMPTS, WORDS)
    ids = [MODEL.encode(word)[0] for word in WORDS]
    texts = [str(MODEL.tokenizer.decode([number])) for number in range(len(MODEL.tokenizer))]
    # " p" begins " positive" alone as well; " " begins both.
    pieces = [
        [number for number, text in enumerate(texts) if word.startswith(text) and text != " "]
        for word in WORDS
    ]
    for prompt, row in zip(PROMPTS, scores.logprobs, strict=True):
        dense = MODEL.logprobs(MODEL.encode(prompt))
        expected = [np.logaddexp.reduce(dense[parts]) for parts in pieces]
        np.testing.assert_allclose(row, expected, rtol=1e-5)
        assert (row >= dense[ids] - 1e-5).all()
    assert scores.answered.all()
    np.testing.assert_array_equal(scores.predicted, scores.logprobs.argmax(axis=1))


def test_a_word_that_is_not_listed_has_at_most_the_last_listed_logprob():
    candidates = {" positive": np.log(0.6), ".": np.log(0.25), "!": np.log(0.05)}
    scores = score_answers([said(" positive", candidates)], WORDS, exact=True)
    np.testing.assert_allclose(np.exp(scores.logprobs), [[0.6, 0.05]], rtol=1e-5)
    full = {" positive": np.log(0.6), ".": np.log(0.38)}
    scores = score_answers([said(" positive", full)], WORDS, exact=True)
    np.testing.assert_allclose(np.exp(scores.logprobs), [[0.6, 0.01]], rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "predicted"),
    [
        (" positive", 0),
        (" Negative.", 1),
        ("The sentiment is negative, not positive", 1),
        (" positively", -1),
        ("", -1),
        (" no idea", -1),
    ],
)
def test_without_lists_the_text_decides(text, predicted):
    for answer in (said(text), said(text, {" ": -0.1, "The": -3.0})):
        scores = score_answers([answer], WORDS, exact=True)
        assert scores.predicted.tolist() == [predicted]
        np.testing.assert_allclose(np.exp(scores.logprobs).sum(), 1, rtol=1e-5)
        if predicted < 0:
            np.testing.assert_allclose(scores.logprobs, np.log(0.5), rtol=1e-6)


def test_a_chat_answer_has_its_own_spaces_and_case():
    answer = said("Positive", {"Positive": np.log(0.5), "positive": np.log(0.2), "Neg": -3.0})
    scores = score_answers([answer], WORDS, exact=False)
    np.testing.assert_allclose(scores.logprobs, [[np.log(0.7), -3.0]], rtol=1e-5)


@pytest.mark.parametrize("words", [("a", ""), ("pos", "positive")])
def test_words_that_cannot_be_told_apart_are_refused_before_asking(server, words):
    with pytest.raises(ValueError, match="must neither be empty nor begin another"):
        model_of(server).label_logprobs(PROMPTS, words)
    assert not server.asked


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b'{"choices": [{"text": 3, "finish_reason": "stop"}]}',
        b'{"choices": [{"text": "a"}]}',
        b'{"choices": [{"text": "a", "finish_reason": "stop", "logprobs": {"tokens": ["a"]}}]}',
        b'{"choices": [{"text": "a", "finish_reason": "stop", "logprobs": [1]}]}',
        b"\xff\xfe",
        b"[" * 100_000,
        # More mass than a distribution has.
        b'{"choices": [{"text": "a", "finish_reason": "stop", "logprobs": {"tokens": ["a"],'
        b' "token_logprobs": [-0.05], "top_logprobs": [{"b": -0.05}]}}]}',
        b'{"choices": [{"text": "a", "finish_reason": "stop", "logprobs": {"tokens": ["a"],'
        b' "token_logprobs": [1e999]}}]}',
    ],
)
def test_what_is_no_answer_is_garbled(data):
    with pytest.raises(GarbledAnswerError):
        parse_answer(data)


def test_tokens_without_mass_or_text_are_named_or_left_out():
    content = (
        b'{"token": "", "bytes": [], "id": 2, "logprob": -0.5, "top_logprobs": ['
        b'{"token": "\\ufffd", "bytes": [226, 130], "logprob": -1}, '
        b'{"token": "x", "logprob": -9999.0}]}'
    )
    answer = parse_answer(
        b'{"choices": [{"text": "", "finish_reason": "stop", "logprobs": {"content": ['
        + content
        + b"]}}]}"
    )
    (token,) = answer.tokens
    assert token.name == "token_id:2"
    assert token.candidates == {"token_id:2": -0.5, "bytes:e282": -1.0}
