"""Texts to tokens, with a tokenizer of whole words and one of bytes."""

import pytest
import tokenizers
from helpers import byte_tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from sentidistill_jax.inference.tokens import (
    encode,
    encode_chat,
    encode_prompt,
    label_ids,
    line_ends,
    special_ids,
    turn_ends,
)

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


def test_a_label_is_the_first_token_of_its_words(tokenizer):
    assert label_ids(tokenizer, ["good", "bad so"]).tolist() == [1, 2]


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


def test_a_line_ends_with_any_token_that_ends_in_a_newline():
    tokenizer = byte_tokenizer(["oneĊ", "twoĊs"])
    texts = [tokenizer.decode([token]) for token in line_ends(tokenizer)]
    assert sorted(texts) == ["\n", " one\n", " two\n"]


_TEMPLATE = (
    "{% for one in messages %}<|{{ one.role }}|>{{ one.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_MARKS = ("<|user|>", "<|assistant|>", "<|end|>")


@pytest.fixture(scope="module")
def chat():
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(_MARKS)})
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


class TestChat:
    def test_a_message_stands_in_the_template(self, chat):
        tokens = encode_chat(chat, "So?")
        assert chat.decode(tokens) == "<|user|>So?<|end|>\n<|assistant|>"
        assert len(tokens) == 3 + len("So?\n")  # each mark is one token
        with pytest.raises(ValueError, match="a chat needs a tokenizer with a chat template"):
            encode_chat(byte_tokenizer(), "So?")

    def test_a_turn_ends_with_what_the_template_puts_after_an_answer(self, chat):
        assert chat.convert_ids_to_tokens(sorted(turn_ends(chat))) == ["<|end|>"]
        assert turn_ends(byte_tokenizer()) == set()

    def test_marks_and_padding_are_special(self, chat):
        assert {chat.decode([one]) for one in special_ids(chat)} == {*_MARKS, "<pad>"}
