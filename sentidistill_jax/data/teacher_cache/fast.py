"""The `fast` codec: plain little-endian arrays, bit exact, decoded without a copy."""

from collections.abc import Sequence

import numpy as np

from sentidistill_jax.data.teacher_cache.records import SparseTargets


class FastCodec:
    """Stores every array as it is, at 8 bytes an entry; decoded arrays are read-only views."""

    def __init__(self, num_temperatures: int):
        self._num_temperatures = num_temperatures

    def encode_tokens(self, tokens: np.ndarray) -> bytes:
        """Packs token ids, int32 [seq]."""
        return tokens.astype("<i4").tobytes()

    def decode_tokens(
        self, parts: Sequence[memoryview], num_tokens: Sequence[int]
    ) -> list[np.ndarray]:
        """Unpacks the token ids of several records."""
        return [np.frombuffer(p, "<i4", n) for p, n in zip(parts, num_tokens, strict=True)]

    def encode_targets(self, targets: SparseTargets) -> bytes:
        """Packs targets whose entries are sorted by id."""
        return b"".join(
            [
                targets.counts.astype("<i4").tobytes(),
                targets.tail_logprobs.astype("<f4").tobytes(),
                targets.ids.astype("<i4").tobytes(),
                targets.logprobs.astype("<f4").tobytes(),
            ]
        )

    def decode_targets(
        self, parts: Sequence[memoryview], num_positions: Sequence[int]
    ) -> list[SparseTargets]:
        """Unpacks the targets of several records."""
        return list(map(self._decode_targets, parts, num_positions))

    def _decode_targets(self, data: memoryview, num_positions: int) -> SparseTargets:
        counts, data = _take(data, "<i4", num_positions)
        tails, data = _take(data, "<f4", num_positions * self._num_temperatures)
        num_entries = len(data) // 8
        ids, data = _take(data, "<i4", num_entries)
        logprobs, _ = _take(data, "<f4", num_entries)
        return SparseTargets(counts, ids, logprobs, tails.reshape(num_positions, -1))


def _take(data: memoryview, dtype: str, count: int) -> tuple[np.ndarray, memoryview]:
    array = np.frombuffer(data, dtype, count)
    return array, data[array.nbytes :]
