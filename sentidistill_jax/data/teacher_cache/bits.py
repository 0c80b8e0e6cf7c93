"""Packing non-negative integers into few bits, with NumPy alone.

Everything here works on whole arrays: bits that belong to the same place of every value lie
together (bit planes), so packing and unpacking never loop over values.
"""

import struct

import numpy as np

_HEADER = struct.Struct("<I")  # low bits, and the bytes of the unary part times 32
_MAX_QUOTIENT = 31  # longer unary codes stand for a value stored whole


def encode_rice(values: np.ndarray) -> bytes:
    """Packs integers that are mostly small: low bits as they are, the quotient in unary.

    Near the entropy for geometrically distributed values, such as the gaps of a random set.

    Args:
      values: Integers from 0 to 2^32 - 1, [n].

    Returns:
      Bytes that `decode_rice` reads back, knowing n. A value v costs about
      1 + low + (v >> low) bits, with the number of low bits that makes the sum least.
    """
    values = values.astype(np.uint32)
    sample = values[:: len(values) // 2048 | 1]  # enough to choose by
    low = min(range(int(values.max(initial=0)).bit_length() + 1), key=lambda b: _cost(sample, b))
    quotients = np.minimum(values >> low, _MAX_QUOTIENT)
    ends = np.cumsum(quotients + 1, dtype=np.int64) - 1
    unary = np.zeros(ends[-1] + 1 if len(ends) else 0, np.uint8)
    unary[ends] = 1
    packed = np.packbits(unary)
    return b"".join(
        [
            _HEADER.pack(low | len(packed) << 5),
            packed.tobytes(),
            values[quotients == _MAX_QUOTIENT].astype("<u4").tobytes(),
            pack_planes(values, low),
        ]
    )


def decode_rice(data: memoryview, count: int) -> tuple[np.ndarray, memoryview]:
    """Unpacks `count` values, uint32 [count], and returns what follows them in `data`."""
    (header,) = _HEADER.unpack_from(data)
    low, unary_bytes = header & 31, header >> 5
    data = data[_HEADER.size :]
    unary = np.unpackbits(np.frombuffer(data, np.uint8, unary_bytes))
    ends = np.flatnonzero(unary.view(np.bool_)).astype(np.uint32)
    data = data[unary_bytes:]
    quotients = np.empty(count, np.uint32)
    quotients[:1] = ends[:1]
    np.subtract(ends[1:], ends[:-1], out=quotients[1:])
    quotients[1:] -= 1
    whole = np.flatnonzero(quotients == _MAX_QUOTIENT)
    outliers = np.frombuffer(data, "<u4", len(whole))
    values, data = unpack_planes(data[outliers.nbytes :], count, low)
    quotients <<= low
    values |= quotients
    values[whole] = outliers
    return values, data


def pack_planes(values: np.ndarray, width: int) -> bytes:
    """Packs the `width` low bits of every value: whole bytes first, then the rest bit by bit."""
    planes = [(values >> shift).astype(np.uint8).tobytes() for shift in range(0, width - 7, 8)]
    for bit in range(width // 8 * 8, width):
        planes.append(np.packbits((values >> bit & 1).astype(np.uint8)).tobytes())
    return b"".join(planes)


def unpack_planes(data: memoryview, count: int, width: int) -> tuple[np.ndarray, memoryview]:
    """Inverse of `pack_planes`: uint32 [count], and what follows in `data`."""
    whole = width // 8 * 8
    octets = np.zeros((count, 4), np.uint8)  # of each value, least significant first
    for place in range(width // 8):
        octets[:, place] = np.frombuffer(data, np.uint8, count)
        data = data[count:]
    plane_bytes = -(-count // 8)
    rest = np.zeros(count, np.uint8)
    for bit in range(width - whole):
        plane = np.unpackbits(np.frombuffer(data, np.uint8, plane_bytes), count=count)
        plane <<= bit
        rest |= plane
        data = data[plane_bytes:]
    if width > whole:
        octets[:, width // 8] = rest
    return octets.view("<u4").reshape(count), data


def _cost(values: np.ndarray, low: int) -> int:
    quotients = values >> low
    whole = int((quotients >= _MAX_QUOTIENT).sum())
    return len(values) * (1 + low) + int(np.minimum(quotients, _MAX_QUOTIENT).sum()) + 32 * whole
