"""How requests become arrays, written out; and what holds for any of them."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentidistill_jax.inference.batching import (
    bucket,
    common_prefix,
    prompt_batches,
    score_batches,
    unpack,
)
from sentidistill_jax.inference.distribution import SparseDistribution
from sentidistill_jax.inference.requests import GenerateRequest, ScoreRequest
from sentidistill_jax.inference.row_plan import Limits


def _score(tokens, start, count, *chosen):
    table = np.array(chosen, np.int32).reshape(count, -1)
    return ScoreRequest(np.array(tokens, np.int32), start, count, table)


def test_buckets():
    sizes = {length: bucket(length) for length in (1, 16, 17, 24, 25, 32, 33, 48, 49, 97, 193)}
    assert sizes == {
        1: 16, 16: 16, 17: 24, 24: 24, 25: 32, 32: 32, 33: 48, 48: 48, 49: 64, 97: 128, 193: 256
    }  # fmt: skip


@given(st.integers(1, 5000))
def test_a_bucket_holds_its_length_and_wastes_at_most_half_of_it(length):
    assert length <= bucket(length) <= max(16, 1.5 * length)
    assert bucket(bucket(length)) == bucket(length)


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=4))
def test_common_prefix(sequences):
    expected = os.path.commonprefix(sequences)
    assert common_prefix([np.array(s, np.int32) for s in sequences]) == len(expected)


def test_score_requests_in_rows():
    requests = [
        _score([5, 5, 1, 2, 3], 3, 2, (7, -1), (8, 9)),
        _score([5, 5, 4, 4], 3, 1, (6,)),  # its last token is the predicted one: not read
    ]
    ((packed, batch),) = score_batches(requests, 2, Limits(128, 1, length_step=128), pad_id=99)
    assert packed == [[0, 1]]
    assert batch.tokens.shape == (1, 128)
    assert batch.tokens[0, :4].tolist() == [1, 2, 4, 99]
    assert batch.positions[0, :4].tolist() == [2, 3, 2, 2]
    assert batch.segment_ids is not None
    assert batch.segment_ids[0, :4].tolist() == [1, 1, 2, 0]
    assert batch.predict_from[0, :4].tolist() == [0, 1, 2, 0]
    assert batch.chosen[0, :4].tolist() == [[7, -1], [8, 9], [6, -1], [-1, -1]]

    entries = np.arange(16)[None, :, None]
    scores = SparseDistribution(entries, entries, entries, entries, entries)
    cut = {index: part.top_k_ids[:, 0].tolist() for index, part in unpack(requests, packed, scores)}
    assert cut == {0: [0, 1], 1: [2]}


def test_requests_in_rows_of_their_own():
    requests = [_score([1] * length, length, 1, (3,)) for length in (30, 60, 31)]
    limits = Limits(128, 1, compilation=1)
    (short, first), (long, second) = score_batches(requests, 0, limits, pad_id=0)
    assert (short, long) == ([[0], [2]], [[1]])
    assert (first.tokens.shape, second.tokens.shape) == ((2, 32), (1, 64))
    assert first.predict_from.tolist() == [[29], [30]]
    assert first.segment_ids is None  # no row is shared
    assert first.chosen.shape == (2, 1, 1)


def test_prompts_in_rows():
    requests = [
        GenerateRequest(np.array([5, 1, 2, 3]), seed=4),
        GenerateRequest(np.array([5, 1]), seed=6, chosen=np.array([8, 9])),
    ]
    ((indices, batch),) = prompt_batches(requests, 1, 10, Limits(512, 4), pad_id=99)
    assert indices == [1, 0]  # the shorter first
    assert batch.tokens.shape == (4, 16)
    assert batch.tokens[:, :4].tolist() == [[1, 99, 99, 99], [1, 2, 3, 99], [99] * 4, [99] * 4]
    assert batch.lengths.tolist() == [1, 3, 1, 1]
    assert batch.seeds.tolist() == [6, 4, 0, 0]
    assert batch.chosen.tolist() == [[8, 9], [-1, -1], [-1, -1], [-1, -1]]


def test_all_prompt_batches_have_one_shape_and_leave_room_for_what_is_generated():
    requests = [GenerateRequest(np.ones(length, np.int32)) for length in range(10, 30)]
    batches = list(prompt_batches(requests, 0, 32, Limits(256, 1), pad_id=0))
    assert {batch.tokens.shape for _, batch in batches} == {(4, 32)}
    assert [len(indices) for indices, _ in batches] == [4] * 5


@pytest.mark.parametrize(
    ("tokens", "start", "count", "chosen", "message"),
    [
        ([1, 2], 0, 1, (1,), "start=0, count=1 and 2 tokens; expected start and count of at least"),
        ([1, 2], 1, 0, (), "start=1, count=0 and 2 tokens"),
        ([1, 2], 2, 2, (1,), r"start=2, count=2 and 2 tokens; .* start \+ count - 1 tokens"),
    ],
)
def test_a_score_request_that_cannot_be_answered_is_refused(tokens, start, count, chosen, message):
    with pytest.raises(ValueError, match=message):
        ScoreRequest(np.array(tokens), start, count, np.array(chosen)[None])


def test_chosen_tokens_need_a_row_per_position():
    with pytest.raises(
        ValueError, match=r"count=2 has chosen of shape \(1, 1\), expected \(2, any"
    ):
        ScoreRequest(np.arange(5), 1, 2, np.array([[1]]))


@pytest.mark.parametrize(("tokens", "seed"), [([], 0), ([1], -1), ([1], 2**31)])
def test_a_generate_request_needs_a_prompt_and_a_seed_that_fits(tokens, seed):
    with pytest.raises(ValueError, match=r"at least one token and a seed from 0 to 2\*\*31 - 1"):
        GenerateRequest(np.array(tokens), seed)
