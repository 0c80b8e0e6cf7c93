"""Label words as answers, with a tokenizer of whole words."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from sentidistill_jax.inference.engine import Engine
from sentidistill_jax.inference.label_scoring import (
    encode,
    encode_prompt,
    label_ids,
    score_labels,
)
from sentidistill_jax.models.hf import load_decoder, read_hf_directory
from sentidistill_jax.sharding import make_mesh

_MODEL = pathlib.Path(__file__).parents[1] / "golden" / "llama_tied"
_WORDS = ("<s>", "good", "bad", "so", "a", "film", "is", ":")


@pytest.fixture(scope="module")
def tokenizer():
    vocab = {word: index for index, word in enumerate(_WORDS)}
    backend = tokenizers.Tokenizer(WordLevel(vocab, unk_token="<s>"))
    backend.pre_tokenizer = WhitespaceSplit()  # type: ignore[assignment]
    backend.post_processor = TemplateProcessing(  # type: ignore[assignment]
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def test_a_prompt_gets_what_the_tokenizer_puts_before_a_text(tokenizer):
    assert encode(tokenizer, "a film").tolist() == [4, 5]
    assert encode_prompt(tokenizer, "a film").tolist() == [0, 4, 5]


def test_scores_are_logprobs_of_the_first_tokens_whatever_the_order_of_lengths(tokenizer):
    mesh = make_mesh({}, jax.devices()[:1])
    config, tensors = read_hf_directory(_MODEL)
    decoder = load_decoder(config, tensors, mesh)
    prompts = ["a film is :", "a :", "a film film film is :", ":"]
    scores = score_labels(Engine(decoder, mesh, pad_id=0), tokenizer, prompts, ["good", "bad so"])
    assert scores.shape == (4, 2) and scores.dtype == np.float32

    padded = np.zeros((4, 8), np.int32)
    lengths = [len(prompt.split()) + 1 for prompt in prompts]
    for row, prompt in zip(padded, prompts, strict=True):
        row[: len(prompt.split()) + 1] = [0, *map(_WORDS.index, prompt.split())]
    positions = jnp.broadcast_to(jnp.arange(8)[None], (4, 8))
    hidden, _ = jax.jit(lambda tokens: decoder(tokens, positions))(padded)
    logprobs = jax.nn.log_softmax(decoder.logits(hidden), axis=-1)
    expected = np.stack([logprobs[row, n - 1, 1:3] for row, n in enumerate(lengths)])
    np.testing.assert_allclose(scores, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["good", "bad", "good film"], r"'good' and 'good film' both begin with token 1 \('good'"),
        (["good", ""], r"\['good', ''\] must not be empty"),
    ],
)
def test_label_words_that_cannot_be_told_apart_are_refused(tokenizer, words, message):
    with pytest.raises(ValueError, match=message):
        label_ids(tokenizer, words)
