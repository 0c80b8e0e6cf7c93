"""Packed integers come back, in about as few bits as their entropy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentidistill_jax.data.teacher_cache import bits


@given(st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 40), max_size=200))
def test_rice_round_trip_leaves_what_follows(values):
    data = memoryview(bits.encode_rice(np.array(values, np.int64)) + b"next")
    decoded, rest = bits.decode_rice(data, len(values))
    assert decoded.tolist() == values
    assert bytes(rest) == b"next"


@given(st.lists(st.integers(0, 2**32 - 1), max_size=50), st.integers(0, 32))
def test_planes_round_trip_keeps_the_low_bits(values, width):
    data = memoryview(bits.pack_planes(np.array(values, np.uint32), width) + b"next")
    decoded, rest = bits.unpack_planes(data, len(values), width)
    assert decoded.tolist() == [value % 2**width for value in values]
    assert bytes(rest) == b"next"


def test_rice_bytes_are_those_of_the_format_description():
    # 5, 0, 12, 3 with two low bits: quotients 1, 0, 3, 0 are the unary bits 01 1 0001 1.
    unary, low_bits = 0b0110_0011, [0b1001_0000, 0b0001_0000]  # low bits 1, 0, 0, 3 by plane
    expected = [2 | 1 << 5, 0, 0, 0, unary, *low_bits]
    assert list(bits.encode_rice(np.array([5, 0, 12, 3]))) == expected


@pytest.mark.parametrize("mean", [1, 3, 50, 2000])
def test_rice_is_near_the_entropy_of_geometric_values(mean):
    p = 1 / (1 + mean)
    entropy = -np.log2(p) - (1 - p) / p * np.log2(1 - p)
    values = np.random.default_rng(0).geometric(p, 50_000) - 1
    assert len(bits.encode_rice(values)) * 8 / len(values) < 1.05 * entropy + 0.05


def test_one_outlier_costs_eight_bytes_not_its_quotient():
    values = np.full(1000, 3)
    plain = len(bits.encode_rice(values))
    values[500] = 2**31
    assert len(bits.encode_rice(values)) <= plain + 9
