"""Tokens of a server as ids of the student, and lists of them as sparse targets."""

import numpy as np
import pytest
from helpers import byte_tokenizer

from sentidistill_jax.endpoint.protocol import TokenLogprobs, token_name
from sentidistill_jax.teacher.alignment import Aligner

TOKENIZER = byte_tokenizer(["film", "é"])


@pytest.fixture(scope="module")
def aligner():
    return Aligner(TOKENIZER)


def ids(text):
    return TOKENIZER(text)["input_ids"]


def tokens(*names):
    return [TokenLogprobs(name, {}) for name in names]


def test_every_token_is_found_by_its_bytes(aligner):
    for number, piece in enumerate(TOKENIZER.convert_ids_to_tokens(list(range(len(TOKENIZER))))):
        text = TOKENIZER.decode([number])
        if "\ufffd" not in text:
            assert aligner.id_of(text) == number, piece
    euro = "€".encode()
    found = [aligner.id_of(token_name(euro[i : i + 1])) for i in range(3)]
    assert found == ids("€")
    assert aligner.id_of("<pad>") == TOKENIZER.pad_token_id
    assert aligner.id_of("token_id:7") == 7
    assert aligner.id_of("film") is None  # only " film" is a token
    assert aligner.id_of("\ufffd") is None


def test_a_text_is_aligned_only_if_it_was_cut_alike(aligner):
    np.testing.assert_array_equal(
        aligner.text_ids("a film", tokens("a", " film", "\n")), ids("a film")
    )
    assert aligner.text_ids("a film", tokens("a", " ", "film")) is None
    assert aligner.text_ids("a film", tokens("a", " f", "i", "l", "m")) is None
    assert aligner.text_ids("a film", tokens("a")) is None
    assert aligner.text_ids("a film", []) is None


def test_prompt_and_completion_join_only_where_no_token_spans_both(aligner):
    assert aligner.joins("a ", np.array(ids("x\n"))) == "a x\n"
    assert aligner.joins("a", np.array(ids(" film"))) == "a film"
    assert aligner.joins("a ", np.array(ids("film"))) is None


def test_what_is_not_listed_or_not_known_is_in_the_tail(aligner):
    row = {"a": np.log(0.5), "nowhere": np.log(0.2), " film": np.log(0.1), "b": np.log(0.05)}
    targets = aligner.targets([row], 3, {})
    assert dict(zip(targets.ids, np.exp(targets.logprobs), strict=True)) == {
        ids("a")[0]: pytest.approx(0.5),
        ids(" film")[0]: pytest.approx(0.1),
    }
    np.testing.assert_allclose(np.exp(targets.tail_logprobs), [[0.4]], rtol=1e-6)


def test_forced_ids_are_kept_and_bounded_where_the_list_lacks_them(aligner):
    row = {"a": np.log(0.9), "b": np.log(0.04), "c": np.log(0.02)}
    b, x, y = (ids(text)[0] for text in "bxy")
    targets = aligner.targets([row], 1, {0: np.array([b, x, y])})
    kept = dict(zip(targets.ids, np.exp(targets.logprobs), strict=True))
    # The tail without a and b has 0.06: no more than the last listed, 0.02, for each of x and y.
    assert kept[b] == pytest.approx(0.04)
    assert kept[x] == kept[y] == pytest.approx(0.02, rel=1e-5)
    np.testing.assert_allclose(np.exp(targets.tail_logprobs), [[0.02]], rtol=1e-4)


def test_rounded_lists_leave_some_tail(aligner):
    targets = aligner.targets([{"a": 0.0}], 4, {})
    assert -30 < targets.tail_logprobs[0, 0] < -10
    assert aligner.targets([{"nowhere": -0.1}], 4, {}) is None
