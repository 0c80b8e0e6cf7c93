"""Trimmed tokenizers: texts of kept tokens stay, all others still encode and decode."""

import numpy as np
import pytest
import tokenizers
from helpers import byte_tokenizer
from tokenizers import models, processors
from transformers import PreTrainedTokenizerFast

from sentidistill_jax.models.trimmed_vocabulary import (
    TrimmedVocabulary,
    choose_tokens,
    trim_tokenizer,
)

TEXT = "so positive, so posh: negative <pad> 12 € 日本\n"


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = byte_tokenizer(["positive", "negative", "posh", "many"])
    tokenizer.add_special_tokens({"bos_token": "<bos>"})
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A",
        special_tokens=[("<bos>", tokenizer.convert_tokens_to_ids("<bos>"))],
    )
    return tokenizer


def ids(tokenizer, text):
    return tokenizer(text)["input_ids"]


def choose(tokenizer, text, size=0, frequencies=None):
    if frequencies is None:
        frequencies = np.zeros(len(tokenizer))
    return choose_tokens(tokenizer, ids(tokenizer, text), frequencies, size)


def test_a_text_of_kept_tokens_stays_as_it_is(tokenizer):
    kept = choose(tokenizer, TEXT)
    trimmed = trim_tokenizer(tokenizer, kept)
    assert len(trimmed) == len(kept) < len(tokenizer)
    assert kept[ids(trimmed, TEXT)].tolist() == ids(tokenizer, TEXT)
    assert ids(trimmed, "")[:1] == [trimmed.convert_tokens_to_ids("<bos>")]
    assert (trimmed.pad_token, trimmed.bos_token) == ("<pad>", "<bos>")
    assert trimmed.chat_template == tokenizer.chat_template


def test_any_other_text_falls_into_smaller_tokens(tokenizer):
    trimmed = trim_tokenizer(tokenizer, choose(tokenizer, " posh"))
    assert len(ids(tokenizer, " many positive")) < len(ids(trimmed, " many positive"))
    for text in (" many positive", TEXT, "\x00\t\ud7ff Ω"):
        got = trimmed.decode(ids(trimmed, text), skip_special_tokens=False)
        assert got == f"<bos>{text}"


def test_what_a_kept_token_is_merged_of_is_kept(tokenizer):
    kept = choose(tokenizer, " posh")
    tokens = tokenizer.convert_ids_to_tokens(kept.tolist())
    assert [one for one in tokens if one.startswith("Ġ") and len(one) > 1] == [
        "Ġp", "Ġpo", "Ġpos", "Ġposh",
    ]  # fmt: skip


def test_every_way_to_merge_a_kept_token_is_kept():
    """Which of them applies depends on the text around."""
    vocab = {token: index for index, token in enumerate(["a", "b", "c", "ab", "bc", "abc"])}
    model = models.BPE(vocab=vocab, merges=[("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(model))
    assert choose(tokenizer, "abc").tolist() == [0, 1, 2, 3, 4, 5]


def test_a_larger_size_takes_the_most_frequent_whole(tokenizer):
    frequencies = np.zeros(len(tokenizer))
    least = choose(tokenizer, "")
    words = [tokenizer.convert_tokens_to_ids(f"Ġ{word}") for word in ("many", "posh")]
    frequencies[words] = 1.0, 2.0
    for size, expected in ((len(least) + 4, [False, True]), (len(least) + 8, [True, True])):
        kept = choose(tokenizer, "", size, frequencies)
        assert len(kept) == size
        assert np.isin(words, kept).tolist() == expected
    everything = choose(tokenizer, "", 10_000, frequencies)
    assert everything.tolist() == list(range(len(tokenizer)))


def test_equally_frequent_tokens_come_in_the_order_of_merges(tokenizer):
    least = choose(tokenizer, "")
    kept = choose(tokenizer, "", len(least) + 2)
    new = tokenizer.convert_ids_to_tokens(sorted(set(kept) - set(least)))
    assert new == ["Ġp", "Ġpo"]


def test_it_is_saved_and_loaded(tmp_path):
    assert TrimmedVocabulary.load(tmp_path) is None
    one = TrimmedVocabulary(np.array([0, 2, 5], np.int32), 7, "larger")
    one.save(tmp_path)
    loaded = TrimmedVocabulary.load(tmp_path)
    assert loaded is not None
    np.testing.assert_array_equal(loaded.kept_ids, one.kept_ids)
    assert (loaded.source_vocab_size, loaded.source_tokenizer) == (7, "larger")
    assert loaded.new_ids.tolist() == [0, -1, 1, -1, -1, 2, -1]


class TestErrors:
    def test_a_size_that_is_too_small(self, tokenizer):
        with pytest.raises(ValueError, match=r"student.vocabulary_size=9 must be at least 25\d,"):
            choose(tokenizer, "", 9)

    def test_a_tokenizer_of_another_kind(self):
        backend = tokenizers.Tokenizer(models.WordLevel(vocab={"a": 0}, unk_token="a"))
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
        with pytest.raises(ValueError, match="has a WordLevel model .* expected BPE"):
            choose_tokens(tokenizer, [], np.zeros(1), 0)

    def test_a_post_processor_of_another_kind(self):
        tokenizer = byte_tokenizer()
        tokenizer.backend_tokenizer.post_processor = processors.BertProcessing(("a", 64), ("b", 65))
        with pytest.raises(ValueError, match="has a BertProcessing post-processor"):
            trim_tokenizer(tokenizer, np.arange(257))
