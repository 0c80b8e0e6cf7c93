"""The `small` codec: few bits an entry, ids lossless, logprobs within a stated error."""

import struct

import numpy as np

from sentidistill_jax.data.teacher_cache import bits
from sentidistill_jax.data.teacher_cache.records import SparseTargets, first_entries
from sentidistill_jax.data.teacher_cache.values import ValueCoder

_HEADER = struct.Struct("<III")  # most entries at a position, all entries, ids in the dictionary


class SmallCodec:
    """Id sets as Rice-coded gaps; a `ValueCoder` packs the logprobs.

    A random set of 64 ids out of 128k takes 12.5 bits an id, its entropy within a tenth of a bit.
    """

    def __init__(self, values: ValueCoder, vocab_size: int):
        self._values = values
        self._token_bits = (vocab_size - 1).bit_length()

    def encode_tokens(self, tokens: np.ndarray) -> bytes:
        """Packs token ids, int32 [seq]."""
        return bits.pack_planes(tokens, self._token_bits)

    def decode_tokens(self, data: memoryview, num_tokens: int) -> np.ndarray:
        """Unpacks token ids that fill `data`."""
        return bits.unpack_planes(data, num_tokens, self._token_bits)[0].astype(np.int32)

    def encode_targets(self, targets: SparseTargets) -> bytes:
        """Packs targets whose entries are sorted by id."""
        counts = targets.counts
        most = int(counts.max())
        dictionary, words = np.unique(targets.ids, return_inverse=True)
        plain = bits.encode_rice(_gaps(targets.ids, counts))
        # Neighbouring positions share many ids, so numbering those of the record often pays.
        renamed = bits.encode_rice(_gaps(dictionary, np.array([len(dictionary)])))
        renamed += bits.encode_rice(_gaps(words, counts))
        use_dictionary = len(renamed) < len(plain)
        return b"".join(
            [
                _HEADER.pack(most, len(targets.ids), len(dictionary) if use_dictionary else 0),
                bits.encode_rice(most - counts),
                renamed if use_dictionary else plain,
                self._values.encode(targets),
            ]
        )

    def decode_targets(self, data: memoryview, num_positions: int) -> SparseTargets:
        """Unpacks targets that fill `data`."""
        most, num_entries, num_words = _HEADER.unpack_from(data)
        shortfall, data = bits.decode_rice(data[_HEADER.size :], num_positions)
        counts = most - shortfall.astype(np.int32)
        dictionary = None
        if num_words:
            gaps, data = bits.decode_rice(data, num_words)
            dictionary = _sets(gaps, np.array([num_words]))
        gaps, data = bits.decode_rice(data, num_entries)
        ids = _sets(gaps, counts)
        if dictionary is not None:
            ids = dictionary[ids]
        logprobs, tail_logprobs = self._values.decode(data, counts)
        return SparseTargets(counts, ids, logprobs, tail_logprobs)


def _gaps(ids: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Ids that are skipped before each id of an ascending set; counts [n] cuts the sets apart."""
    gaps = np.diff(ids, prepend=0) - 1
    starts = first_entries(counts)
    gaps[starts] = ids[starts]
    return gaps


def _sets(gaps: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Inverse of `_gaps`, int32: a running sum that starts again with every set."""
    steps = gaps + 1
    starts = first_entries(counts)
    sums = np.add.reduceat(steps, starts)
    steps[starts[1:]] -= sums[:-1]
    return np.cumsum(steps, dtype=np.int32) - np.int32(1)
