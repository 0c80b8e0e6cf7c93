"""Texts to token ids: a text as it stands, a prompt, a message of a chat, and label words."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from transformers import PreTrainedTokenizerBase


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> Int[np.ndarray, " seq"]:
    """Token ids of a text as it stands, without special tokens."""
    return np.asarray(tokenizer(text, add_special_tokens=False)["input_ids"], np.int32)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, text: str) -> Int[np.ndarray, " seq"]:
    """Token ids of a prompt: with whatever the tokenizer puts before a text."""
    return np.asarray(tokenizer(text)["input_ids"], np.int32)


def encode_chat(tokenizer: PreTrainedTokenizerBase, message: str) -> Int[np.ndarray, " seq"]:
    """Token ids of a user's message in the chat template, up to where the answer begins.

    Raises:
      ValueError: If the tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            f"a chat needs a tokenizer with a chat template, and that of {tokenizer.name_or_path!r}"
            " has none; use a model that was tuned to follow instructions, or ask without a chat."
        )
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": message}], tokenize=False, add_generation_prompt=True
    )
    return encode(tokenizer, str(text))  # the template writes the special tokens


def label_ids(
    tokenizer: PreTrainedTokenizerBase, label_words: Sequence[str]
) -> Int[np.ndarray, " labels"]:
    """First token of each label word.

    Raises:
      ValueError: If a word is empty, or two begin with the same token, since no score could tell
        them apart.
    """
    if not all(label_words):
        raise ValueError(f"label words {list(label_words)} must not be empty; name every label.")
    ids = np.array([encode(tokenizer, word)[0] for word in label_words], np.int32)
    for index, token in enumerate(ids):
        earlier = np.flatnonzero(ids[:index] == token)
        if earlier.size:
            first, second = label_words[earlier[0]], label_words[index]
            raise ValueError(
                f"label words {first!r} and {second!r} both begin with token {int(token)}"
                f" ({tokenizer.decode([int(token)])!r}), so they cannot be told apart; choose other"
                " words or another tokenizer."
            )
    return ids


def line_ends(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end a line, ascending: a newline, and what has one at its end, such as two."""
    ends = {int(encode(tokenizer, "\n")[-1])}
    for piece, token in tokenizer.get_vocab().items():
        # Byte-level vocabularies write a newline as this letter, which others hold as itself.
        if piece.endswith(("\n", "Ċ")) and str(tokenizer.decode([token])).endswith("\n"):
            ends.add(token)
    return sorted(ends)


def special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Tokens that mark turns and ends and are no text."""
    added = tokenizer.added_tokens_decoder.items()
    return {*tokenizer.all_special_ids, *(token for token, one in added if one.special)}


def turn_ends(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Tokens with which the chat template ends an answer; none without a template."""
    if not tokenizer.chat_template:
        return set()
    answer = "An answer"
    chat = [{"role": "user", "content": "A question"}, {"role": "assistant", "content": answer}]
    _, found, after = str(tokenizer.apply_chat_template(chat, tokenize=False)).rpartition(answer)
    special = special_ids(tokenizer)
    marks = [int(token) for token in encode(tokenizer, after) if int(token) in special]
    return set(marks[:1]) if found else set()
