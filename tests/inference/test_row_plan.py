"""Sequences in rows: nothing is lost, and no other plan of its kind would be cheaper."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentidistill_jax.inference.row_plan import Group, Limits, Shape, pack, plan_rows

CPU = {"length_step": 16, "compilation": 1024}
ACCELERATOR = {"length_step": 128, "compilation": 2**20}


def cost(groups, limits):
    return sum(group.cost(limits) for group in groups)


def tokens_read(groups):
    batches = [(-(-len(group.rows) // group.shape.rows), group.shape) for group in groups]
    return sum(count * shape.rows * shape.length for count, shape in batches)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=40))
def test_packing_places_every_sequence_once_in_rows_that_no_two_of_which_would_fit_in_one(lengths):
    rows = pack(lengths, 20)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    used = sorted(sum(lengths[index] for index in row) for row in rows)
    assert used[-1] <= 20
    assert len(used) == 1 or used[0] + used[1] > 20


@pytest.mark.parametrize(
    ("tokens", "ways", "count", "length", "rows"),
    [
        (2048, 1, 3, 128, 4),  # up to a power of two
        (2048, 1, 100, 128, 16),  # as many as the bound allows
        (2048, 1, 100, 192, 10),
        (64, 1, 5, 128, 1),  # one row always fits
        (2048, 4, 1, 128, 4),  # one row per way
        (2048, 4, 100, 192, 8),  # a multiple of the ways
        (2048, 3, 4, 128, 6),
    ],
)
def test_rows_of_a_batch(tokens, ways, count, length, rows):
    assert Limits(tokens, ways).rows(count, length) == rows


@pytest.mark.parametrize(
    ("tokens", "ways", "count", "length", "rows"),
    [
        (2048, 1, 3, 128, 3),
        (2048, 1, 16, 128, 16),
        (2048, 1, 9, 128, 10),  # four sizes up to twice as many
        (2048, 1, 17, 128, 10),  # two batches of 9, which is no size
        (2048, 1, 65, 128, 14),  # five batches of 13
        (2048, 1, 21, 192, 7),  # three batches, of 10 at most
        (64, 1, 5, 128, 1),  # one row always fits
        (2048, 4, 1, 128, 4),  # one row per way
        (2048, 4, 17, 128, 12),  # a multiple of the ways
    ],
)
def test_even_rows_of_batches(tokens, ways, count, length, rows):
    limits = Limits(tokens, ways)
    assert limits.even_rows(count, length) == rows
    assert -(-count // rows) == -(-count // limits.rows(10**6, length))  # no batch more than needed


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=60),
    st.sampled_from([1, 2]),
    st.sampled_from([CPU, ACCELERATOR]),
)
def test_every_sequence_has_room_in_one_row(lengths, ways, costs):
    limits = Limits(4096, ways, **costs)
    groups = plan_rows(lengths, limits)
    placed = [index for group in groups for row in group.rows for index in row]
    assert sorted(placed) == list(range(len(lengths)))
    for group in groups:
        shape = group.shape
        assert shape.length % limits.length_step == 0 and shape.rows % ways == 0
        assert shape.rows == ways or shape.rows * shape.length <= limits.tokens
        for row in group.rows:
            assert sum(lengths[index] for index in row) <= shape.length
            assert len(row) == 1 or shape.shared


@settings(deadline=None)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=6), st.integers(0, 3000))
def test_no_other_cut_by_length_is_cheaper(lengths, compilation):
    limits = Limits(1024, 1, compilation=compilation)
    order = np.argsort(lengths, kind="stable").tolist()
    cheapest = math.inf

    def padded(index):
        return -(-lengths[index] // 16) * 16

    for cuts in itertools.product([False, True], repeat=len(order) - 1):
        ends = [at + 1 for at, cut in enumerate(cuts) if cut] + [len(order)]
        if any(padded(order[end - 1]) == padded(order[end]) for end in ends[:-1]):
            continue  # one shape
        groups = []
        for start, end in itertools.pairwise([0, *ends]):
            length = padded(order[end - 1])
            shape = Shape(limits.even_rows(end - start, length), length, False)
            groups.append(Group(shape, [[index] for index in order[start:end]]))
        cheapest = min(cheapest, cost(groups, limits))
    assert cost(plan_rows(lengths, limits), limits) <= cheapest


@pytest.mark.parametrize(("shortest", "longest"), [(100, 300), (600, 3000)])
def test_where_compiling_is_cheap_little_is_read_in_vain(shortest, longest):
    lengths = np.random.default_rng(0).integers(shortest, longest, 5000).tolist()
    groups = plan_rows(lengths, Limits(4096, 1, **CPU))
    assert tokens_read(groups) < 1.07 * sum(lengths)
    assert not any(group.shape.shared for group in groups)
    assert len(groups) <= 64


def test_where_compiling_is_dear_short_sequences_share_rows_of_one_shape():
    lengths = np.random.default_rng(0).integers(50, 300, 1000).tolist()
    (group,) = plan_rows(lengths, Limits(4096, 1, **ACCELERATOR))
    assert group.shape.shared
    assert tokens_read([group]) < 1.15 * sum(lengths)
