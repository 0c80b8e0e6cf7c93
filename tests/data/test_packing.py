"""Packing plans: every sequence once per epoch, budgets kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentidistill_jax.data.packing import pack_epoch


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), max_size=200), st.integers(0, 5))
def test_every_sequence_once_and_no_row_too_full(sizes, epoch):
    lengths = np.array([length for length, _ in sizes], int)
    scored = np.minimum(np.array([n for _, n in sizes], int), lengths)
    rows = pack_epoch(lengths, scored, seq_length=32, scored_length=24, seed=3, epoch=epoch)
    assert sorted(index for row in rows for index in row) == list(range(len(sizes)))
    for row in rows:
        assert lengths[row].sum() <= 32 and scored[row].sum() <= 24


def test_first_fit_in_the_order_of_the_shuffle():
    lengths = np.array([6, 5, 4, 3])
    order = np.random.default_rng((7, 0)).permutation(4).tolist()
    rows = pack_epoch(lengths, lengths, seq_length=9, scored_length=9, seed=7, epoch=0)
    expected: list[list[int]] = []
    for index in order:
        fits = [row for row in expected if lengths[[*row, index]].sum() <= 9]
        if fits:
            fits[0].append(index)
        else:
            expected.append([index])
    assert [row.tolist() for row in rows] == expected


def test_epochs_differ_and_repeat():
    lengths = np.full(50, 3)
    plans = [
        np.concatenate(
            pack_epoch(lengths, lengths, seq_length=9, scored_length=9, seed=1, epoch=epoch)
        ).tolist()
        for epoch in (0, 1, 0)
    ]
    assert plans[0] != plans[1] and plans[0] == plans[2]


def test_a_sequence_that_cannot_fit_is_named():
    with pytest.raises(ValueError, match="seq_length=4 is too small: sequence 1 needs 5"):
        pack_epoch(
            np.array([3, 5]), np.array([1, 1]), seq_length=4, scored_length=4, seed=0, epoch=0
        )
