"""The `small` codec: few bits an entry, ids lossless, logprobs within a stated error."""

import itertools
import struct
from collections.abc import Sequence

import numpy as np

from sentidistill_jax.data.teacher_cache import bits
from sentidistill_jax.data.teacher_cache.records import SparseTargets, first_entries
from sentidistill_jax.data.teacher_cache.values import ValueCoder

_HEADER = struct.Struct("<III")  # most entries at a position, all entries, ids in the dictionary


class SmallCodec:
    """Id sets as Rice-coded gaps; a `ValueCoder` turns the logprobs into integers.

    A random set of 64 ids out of 128k takes 12.5 bits an id, its entropy within a tenth of a bit.
    """

    def __init__(self, values: ValueCoder, vocab_size: int):
        self._values = values
        self._token_bits = (vocab_size - 1).bit_length()
        self._vocabulary = np.arange(vocab_size, dtype=np.int32)

    def encode_tokens(self, tokens: np.ndarray) -> bytes:
        """Packs token ids, int32 [seq]."""
        return bits.pack_fixed(tokens, self._token_bits)

    def decode_tokens(
        self, parts: Sequence[memoryview], num_tokens: Sequence[int]
    ) -> list[np.ndarray]:
        """Unpacks the token ids of several records."""
        lengths = np.array(num_tokens)
        tokens = bits.unpack_fixed(parts, lengths, self._token_bits).view(np.int32)
        return _cut(tokens, lengths)

    def encode_targets(self, targets: SparseTargets) -> bytes:
        """Packs targets whose entries are sorted by id."""
        counts = targets.counts
        most = int(counts.max())
        dictionary, words = np.unique(targets.ids, return_inverse=True)
        plain = _gaps(targets.ids, counts)
        # Neighbouring positions share many ids, so numbering those of the record often pays.
        named, renamed = _gaps(dictionary, np.array([len(dictionary)])), _gaps(words, counts)
        if bits.rice_bits(named) + bits.rice_bits(renamed) >= bits.rice_bits(plain):
            named, renamed = named[:0], plain
        tails, values = self._values.encode(targets)
        header = _HEADER.pack(most, len(targets.ids), len(named))
        streams = bits.encode_rice([most - counts, named, renamed, *values])
        return header + tails.tobytes() + streams

    def decode_targets(
        self, parts: Sequence[memoryview], num_positions: Sequence[int]
    ) -> list[SparseTargets]:
        """Unpacks the targets of several records."""
        positions = np.array(num_positions)
        headers = np.array([_HEADER.unpack_from(part) for part in parts])
        most, num_entries, num_words = headers.T
        ends = (_HEADER.size + 2 * self._values.num_tails * positions).tolist()
        rests = [part[end:] for part, end in zip(parts, ends, strict=True)]
        packed = [part[_HEADER.size : end] for part, end in zip(parts, ends, strict=True)]
        tails = np.frombuffer(b"".join(packed), "<f2")
        tails = tails.reshape(positions.sum(), self._values.num_tails)

        lengths = [positions, num_words, num_entries]
        lengths += self._values.stream_lengths(positions, num_entries)
        shortfall, named, gaps, *values = bits.decode_rice(rests, np.stack(lengths, axis=1))
        counts = np.repeat(most.astype(np.int32), positions) - shortfall.view(np.int32)
        ids = self._ids(named, num_words, _sets(gaps, counts), num_entries)
        logprobs, tail_logprobs = self._values.decode(values, tails, counts)
        return [
            SparseTargets(*fields)
            for fields in zip(
                _cut(counts, positions),
                _cut(ids, num_entries),
                _cut(logprobs, num_entries),
                _cut(tail_logprobs, positions),
                strict=True,
            )
        ]

    def _ids(
        self, named: np.ndarray, num_words: np.ndarray, words: np.ndarray, num_entries: np.ndarray
    ) -> np.ndarray:
        """Looks words up, in the record's dictionary or, without one, in the whole vocabulary."""
        has_dictionary = num_words > 0
        if not has_dictionary.any():
            return words
        dictionaries = _sets(named, num_words[has_dictionary])
        starts = np.where(has_dictionary, first_entries(num_words), len(dictionaries))
        words += np.repeat(starts.astype(np.int32), num_entries)
        if not has_dictionary.all():
            dictionaries = np.concatenate([dictionaries, self._vocabulary])
        return dictionaries[words]


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


def _cut(array: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """Views of what belongs to each record."""
    bounds = [0, *np.cumsum(lengths).tolist()]
    return [array[start:end] for start, end in itertools.pairwise(bounds)]
