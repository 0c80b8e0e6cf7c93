"""Records in memory: padding, order, names."""

import numpy as np
import pytest
from cache_records import random_targets

from sentidistill_jax.data.teacher_cache import SparseTargets, record_key

RAGGED = SparseTargets(
    counts=np.array([2, 1, 3], np.int32),
    ids=np.array([9, 4, 5, 3, 2, 1], np.int32),
    logprobs=np.array([-1, -2, -3, -4, -5, -6], np.float32),
    tail_logprobs=np.full((3, 1), -0.5, np.float32),
)


def test_pad_fills_with_id_zero_and_no_mass():
    ids, logprobs = RAGGED.pad(4)
    none = -np.inf
    assert ids.tolist() == [[9, 4, 0, 0], [5, 0, 0, 0], [3, 2, 1, 0]]
    assert logprobs.tolist() == [[-1, -2, none, none], [-3, none, none, none], [-4, -5, -6, none]]
    assert ids.dtype == np.int32 and logprobs.dtype == np.float32


def test_pad_of_full_rows():
    full = SparseTargets(
        np.full(2, 3, np.int32), RAGGED.ids, RAGGED.logprobs, RAGGED.tail_logprobs[:2]
    )
    assert full.pad(3)[0].tolist() == [[9, 4, 5], [3, 2, 1]]
    assert full.pad(4)[0].tolist() == [[9, 4, 5, 0], [3, 2, 1, 0]]


def test_pad_never_drops_an_entry():
    with pytest.raises(ValueError, match="max_entries=2 is less than the 3 entries"):
        RAGGED.pad(2)


def test_sorting_moves_logprobs_with_their_ids():
    targets = random_targets(np.random.default_rng(0), 20)
    shuffled = targets.sorted_by_id()
    for row, (got, given) in enumerate(zip(shuffled.pad(9)[0], targets.pad(9)[0], strict=True)):
        count = targets.counts[row]
        assert got[:count].tolist() == sorted(given[:count].tolist())
    pairs = set(zip(targets.ids.tolist(), targets.logprobs.tolist(), strict=True))
    assert set(zip(shuffled.ids.tolist(), shuffled.logprobs.tolist(), strict=True)) == pairs


def test_keys_are_the_same_on_every_machine_and_run():
    key = record_key("teacher", [1, 2, 3], np.array([2, 3]))
    assert key.hex() == "aea87dde919782430053676cb5f51e49"


def test_keys_tell_apart_what_they_are_made_of():
    keys = [
        record_key("teacher", [1, 2, 3], np.array([2, 3])),
        record_key("teacher2", [1, 2, 3], np.array([2, 3])),
        record_key("teacher", [1, 2], np.array([3, 2, 3])),
        record_key("teacher", [1, 2, 3], np.array([3, 2])),
        record_key("teacher", [1, 2, 4], np.array([2, 3])),
    ]
    assert len(set(keys)) == len(keys)
