"""Which sequences share a row, written out; and what holds for any lengths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentidistill_jax.data.packing import pack_epoch


def pack(lengths, scored, *, seq_length=10, scored_length=4, seed=0, epoch=0):
    rows = pack_epoch(
        np.array(lengths, np.int32),
        np.array(scored, np.int32),
        seq_length=seq_length,
        scored_length=scored_length,
        seed=seed,
        epoch=epoch,
    )
    return [row.tolist() for row in rows]


class Unshuffled:
    """Stands in for the generator, so that the order of the sequences is the one given."""

    def permutation(self, count):
        return np.arange(count)


@pytest.fixture
def in_order(monkeypatch):
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Unshuffled())


@pytest.mark.usefixtures("in_order")
class TestFirstFit:
    def test_by_tokens(self):
        assert pack([6, 5, 4, 5, 3], [1] * 5) == [[0, 2], [1, 3], [4]]

    def test_by_scored_positions(self):
        assert pack([2, 2, 2, 2], [3, 2, 1, 2]) == [[0, 2], [1, 3]]

    def test_into_the_first_row_that_fits_not_the_tightest(self):
        assert pack([4, 7, 3, 3], [1] * 4) == [[0, 2, 3], [1]]

    def test_a_row_may_be_full_to_the_last_token_and_position(self):
        assert pack([5, 5, 10], [2, 2, 4]) == [[0, 1], [2]]

    def test_the_oldest_row_closes_when_64_are_open(self):
        # 65 rows with one token to spare: a sequence of one token finds row 0 closed.
        assert pack([9] * 65 + [1], [1] * 66)[:2] == [[0], [1, 65]]


def test_each_epoch_and_seed_has_an_order_of_its_own():
    lengths, scored = [10] * 30, [1] * 30
    orders = [
        tuple(row[0] for row in pack(lengths, scored, seed=seed, epoch=epoch))
        for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    assert len(set(orders)) == 4
    assert orders[0] == tuple(row[0] for row in pack(lengths, scored))


def test_nothing_to_pack():
    assert pack([], []) == []


@given(
    st.lists(st.tuples(st.integers(2, 20), st.integers(1, 8)), max_size=150),
    st.integers(0, 2**32 - 1),
)
def test_every_sequence_is_in_one_row_and_no_row_overflows(sizes, seed):
    lengths, scored = np.array(sizes, np.int32).reshape(-1, 2).T
    rows = pack_epoch(lengths, scored, seq_length=20, scored_length=8, seed=seed, epoch=0)
    assert sorted(index for row in rows for index in row) == list(range(len(sizes)))
    for row in rows:
        assert 0 < lengths[row].sum() <= 20
        assert scored[row].sum() <= 8


@pytest.mark.parametrize(
    ("lengths", "scored", "message"),
    [
        ([5, 11, 12], [1, 1, 1], "seq_length=10 is too small: sequence 2 needs 12; set seq_length"),
        ([5, 5], [1, 5], "scored_length=4 is too small: sequence 1 needs 5; set scored_length"),
    ],
)
def test_a_sequence_that_fits_no_row_is_an_error(lengths, scored, message):
    with pytest.raises(ValueError, match=message):
        pack(lengths, scored)
