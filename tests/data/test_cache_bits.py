"""Packed integers come back, in about as few bits as their entropy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentidistill_jax.data.teacher_cache import bits

streams = st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 40), max_size=60)
records = st.tuples(streams, st.lists(st.integers(0, 9), min_size=1, max_size=20), streams)


@given(st.lists(records, min_size=1, max_size=5))
def test_rice_round_trip_of_several_records(given):
    parts = [memoryview(bits.encode_rice([np.array(s, np.int64) for s in r])) for r in given]
    lengths = np.array([[len(stream) for stream in record] for record in given])
    decoded = bits.decode_rice(parts, lengths)
    expected = [[value for record in given for value in record[stream]] for stream in range(3)]
    assert [stream.tolist() for stream in decoded] == expected


@given(
    st.lists(st.lists(st.integers(0, 2**25 - 1), max_size=20), min_size=1, max_size=5),
    st.integers(1, 25),
)
def test_fields_round_trip_keeps_the_low_bits(given, width):
    parts = [memoryview(bits.pack_fixed(np.array(values, np.int32), width)) for values in given]
    decoded = bits.unpack_fixed(parts, np.array([len(values) for values in given]), width)
    assert decoded.tolist() == [value % 2**width for values in given for value in values]


def test_rice_bytes_are_those_of_the_format_description():
    # 5, 0, 12, 3 with two low bits: quotients 1, 0, 3, 0 are the unary bits 01 1 0001 1.
    # 0, 1 with none: 1 01. Low bits 1, 0, 0, 3, the first lowest.
    unary = [0b0110_0011, 0b1010_0000]
    expected = [2, 0, 0, 0, *[0] * 4, 2, 0, *unary, 0b11_00_00_01]
    assert list(bits.encode_rice([np.array([5, 0, 12, 3]), np.array([0, 1])])) == expected


@pytest.mark.parametrize("mean", [1, 3, 50, 2000])
def test_rice_is_near_the_entropy_of_geometric_values(mean):
    p = 1 / (1 + mean)
    entropy = -np.log2(p) - (1 - p) / p * np.log2(1 - p)
    values = np.random.default_rng(0).geometric(p, 50_000) - 1
    size = 8 * len(bits.encode_rice([values]))
    assert size / len(values) < 1.05 * entropy + 0.05
    assert abs(bits.rice_bits(values) / size - 1) < 0.02


def test_one_outlier_costs_eight_bytes_not_its_quotient():
    values = np.full(1000, 3)
    plain = len(bits.encode_rice([values]))
    values[500] = 2**31
    assert len(bits.encode_rice([values])) <= plain + 9
