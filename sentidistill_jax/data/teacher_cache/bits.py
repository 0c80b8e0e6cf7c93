"""Packing non-negative integers into few bits, with NumPy alone.

Everything here works on whole arrays, and decodes many records in one go: a record of a short text
holds so little that calling NumPy for it alone would take longer than the work.
"""

import itertools
import struct
from collections.abc import Sequence

import numpy as np

_HEADER = struct.Struct("<II")  # bytes of the unary part, and escaped values
_ESCAPE = 31  # this quotient stands for a value stored whole
_MAX_LOW = 25  # a field and the bits before it in its byte fit a window of 32 bits


def encode_rice(streams: Sequence[np.ndarray]) -> bytes:
    """Packs streams of integers that are mostly small: low bits as they are, the rest in unary.

    Near the entropy for geometrically distributed values, such as the gaps of a random set.

    Args:
      streams: Integers from 0 to 2^32 - 1, [n] each.

    Returns:
      Bytes that `decode_rice` reads back, knowing every n. A value v costs about
      1 + low + (v >> low) bits, with the number of low bits that makes the stream's sum least.
    """
    streams = [stream.astype(np.uint32) for stream in streams]
    lows = np.array([_best_low(stream)[0] for stream in streams], np.uint8)
    values = np.concatenate(streams)
    widths = np.repeat(lows, [len(stream) for stream in streams])
    quotients = np.minimum(values >> widths, _ESCAPE)
    ends = np.cumsum(quotients + 1, dtype=np.int64) - 1
    unary = np.zeros(ends[-1] + 1, np.uint8)
    unary[ends] = 1
    packed = np.packbits(unary)
    escaped = values[quotients == _ESCAPE].astype("<u4")
    return b"".join(
        [
            _HEADER.pack(len(packed), len(escaped)),
            lows.tobytes(),
            packed.tobytes(),
            escaped.tobytes(),
            _pack(values, widths),
        ]
    )


def decode_rice(parts: Sequence[memoryview], lengths: np.ndarray) -> list[np.ndarray]:
    """Unpacks what `encode_rice` made of several records.

    Args:
      parts: Bytes of each record.
      lengths: Values of each stream of each record, [records, streams]; no record is without any.

    Returns:
      For every stream the values of all records, one after another, uint32.
    """
    num_streams = lengths.shape[1]
    lows, unaries, escaped, fields = [], [], [], []
    for part in parts:
        unary_bytes, num_escaped = _HEADER.unpack_from(part)
        unary_at = _HEADER.size + num_streams
        escaped_at = unary_at + unary_bytes
        fields_at = escaped_at + 4 * num_escaped
        lows.append(part[_HEADER.size : unary_at])
        unaries.append(part[unary_at:escaped_at])
        escaped.append(part[escaped_at:fields_at])
        fields.append(part[fields_at:])
    low = np.frombuffer(b"".join(lows), np.uint8).reshape(lengths.shape)

    unary = np.unpackbits(np.frombuffer(b"".join(unaries), np.uint8))
    ends = np.flatnonzero(unary.view(np.bool_)).astype(np.uint32)
    quotients = np.diff(ends, prepend=np.uint32(0))
    quotients -= 1
    # Zeros that fill up the byte at the end of a record do not count for the next one.
    firsts = _starts(lengths.sum(axis=1))
    quotients[firsts] = ends[firsts] - 8 * _starts(list(map(len, unaries)))

    values = _unpack(fields, low, lengths)
    values |= quotients << np.repeat(low, lengths.ravel())
    whole = np.flatnonzero(quotients == _ESCAPE)
    values[whole] = np.frombuffer(b"".join(escaped), "<u4")

    bounds = [0, *np.cumsum(lengths.ravel()).tolist()]
    slices = [values[start:end] for start, end in itertools.pairwise(bounds)]
    return [np.concatenate(slices[stream::num_streams]) for stream in range(num_streams)]


def rice_bits(values: np.ndarray) -> int:
    """About what a stream costs in `encode_rice`."""
    return _best_low(values.astype(np.uint32))[1]


def pack_fixed(values: np.ndarray, width: int) -> bytes:
    """Packs the `width` low bits of every value, at most 25."""
    return _pack(values.astype(np.uint32), np.full(len(values), width, np.uint8))


def unpack_fixed(parts: Sequence[memoryview], lengths: np.ndarray, width: int) -> np.ndarray:
    """All values, uint32, of several records packed by `pack_fixed`; lengths [records]."""
    return _unpack(parts, np.full((len(parts), 1), width, np.uint8), lengths[:, None])


def _pack(values: np.ndarray, widths: np.ndarray) -> bytes:
    """Low bits of each value, the lowest first, without gaps; zeros fill up the last byte."""
    place = np.arange(widths.sum(dtype=np.int64)) - np.repeat(_starts(widths), widths)
    bit = np.repeat(values, widths) >> place.astype(np.uint32) & 1
    return np.packbits(bit.astype(np.uint8), bitorder="little").tobytes()


def _unpack(parts: Sequence[memoryview], widths: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Inverse of `_pack` for records with streams of one width: both arguments [records, streams].

    Each value is cut out of the 32 bits that begin with the byte in which it begins.
    """
    data = b"".join([*parts, bytes(4)])
    windows = np.ndarray((len(data) - 3,), "<u4", data, strides=(1,)).copy()
    width = np.repeat(widths.astype(np.int32), lengths.ravel())
    at = np.cumsum(width, dtype=np.int32)
    at -= width
    used = (lengths * widths).sum(axis=1)
    begin = 8 * _starts(list(map(len, parts)))
    at += np.repeat((begin - _starts(used)).astype(np.int32), lengths.sum(axis=1))
    values = windows[at >> 3]
    values >>= (at & 7).view(np.uint32)
    values &= np.repeat((np.uint32(1) << widths.astype(np.uint32)) - np.uint32(1), lengths.ravel())
    return values


def _starts(sizes: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.cumsum(sizes, dtype=np.int64) - sizes


def _best_low(values: np.ndarray) -> tuple[int, int]:
    """The number of low bits that makes the stream shortest, and its bits then."""
    longest = min(int(values.max(initial=0)).bit_length(), _MAX_LOW)
    stride = len(values) // 2048 | 1  # a sample is enough to choose by
    costs = [_cost(values[::stride], low) for low in range(longest + 1)]
    low = int(np.argmin(costs))
    return low, costs[low] * stride


def _cost(values: np.ndarray, low: int) -> int:
    quotients = values >> low
    whole = int((quotients >= _ESCAPE).sum())
    return len(values) * (1 + low) + int(np.minimum(quotients, _ESCAPE).sum()) + 32 * whole
