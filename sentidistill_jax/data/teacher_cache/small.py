"""The `small` codec: few bits an entry, ids lossless, logprobs within a stated error.

Ids become gaps within their sets, logprobs levels of a fourth root or counts of draws; `bits`
stores these integers.
"""

import itertools
import struct
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from sentidistill_jax.data.teacher_cache import bits
from sentidistill_jax.data.teacher_cache.records import SparseTargets, first_entries

MAX_KL_NATS = 2e-4  # KL(given || decoded) of a position, over its kept entries and the tail
MAX_LOGPROB_ERROR = 0.25  # nats, of a kept entry
DEPTH_NATS = 60.0  # entries further below their position's largest are stored as this far below

_MAX_STEP_INDEX = 31  # reached at no temperature above 0.06

_HEADER = struct.Struct("<III")  # most entries at a position, all entries, ids in the dictionary


class ValueCoder(Protocol):
    """Turns the logprobs of the entries into streams of integers, and tails into float16."""

    num_tails: int  # columns that are stored

    def stream_lengths(self, positions: np.ndarray, entries: np.ndarray) -> list[np.ndarray]:
        """Integers of each stream in records with so many positions and entries, [records]."""
        ...

    def encode(self, targets: SparseTargets) -> tuple[np.ndarray, list[np.ndarray]]:
        """Returns tails, float16 [n, num_tails], and streams."""
        ...

    def decode(
        self, streams: Sequence[np.ndarray], tails: np.ndarray, counts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns `logprobs` and `tail_logprobs`; positions may be those of several records."""
        ...


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


class RootLevels:
    """Probabilities proportional to (1 + step * level)^4, closed by the tail.

    The smallest entry of a position has level 0; levels are uniform in the fourth root, between
    uniform in the logprob (which spends bits on entries that hardly weigh) and in the square root
    (optimal for the KL alone, but its levels for the largest entries grow too long).
    """

    def __init__(self, temperatures: Sequence[float]):
        self._temperatures = tuple(temperatures)
        self.num_tails = len(self._temperatures)

    def stream_lengths(self, positions: np.ndarray, entries: np.ndarray) -> list[np.ndarray]:
        """Of step indices and levels."""
        return [positions, entries]

    def encode(self, targets: SparseTargets) -> tuple[np.ndarray, list[np.ndarray]]:
        """Finds the coarsest steps that keep both bounds."""
        counts = targets.counts
        tails = targets.tail_logprobs.astype("<f2")
        starts = first_entries(counts)
        rows = np.repeat(np.arange(len(counts)), counts)
        logprobs = targets.logprobs.astype(np.float64)
        largest = np.maximum.reduceat(logprobs, starts)
        clipped = np.maximum(logprobs, (largest - DEPTH_NATS)[rows])
        excess = np.expm1((clipped - np.minimum.reduceat(clipped, starts)[rows]) / 4)

        levels = np.zeros(len(rows), np.int64)
        steps = self._first_guess(clipped, counts)
        todo = np.arange(len(counts))  # positions whose step is still too coarse
        while len(todo):
            here = np.isin(rows, todo, kind="table") if len(todo) < len(counts) else slice(None)
            levels[here] = np.rint(excess[here] / np.repeat(_step(steps[todo]), counts[todo]))
            decoded = _root_logprobs(levels[here], steps[todo], counts[todo], tails[todo, 0])
            good = self._within_bounds(
                clipped[here], decoded, targets.tail_logprobs[todo], tails[todo], counts[todo]
            )
            todo = todo[~good]
            steps[todo] += 1
            if steps.max() > _MAX_STEP_INDEX:
                raise ValueError(
                    "logprobs and tail_logprobs at temperature 1 make no distribution: "
                    "their masses must add up to 1; check how the tail was computed."
                )
        return tails, [steps, levels]

    def decode(
        self, streams: Sequence[np.ndarray], tails: np.ndarray, counts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Closes the levels by the tail."""
        steps, levels = streams
        return _root_logprobs(levels, steps, counts, tails[:, 0]), tails.astype(np.float32)

    def _first_guess(self, logprobs: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """A step that is a little too coarse at most positions, from the expected KL.

        Rounding moves a root by step / sqrt(12) and its logprob by 4 / root times that. The KL is
        half the mean square of the logprobs' errors: 2/3 step^2 sum(p / root^2).
        """
        starts = first_entries(counts)
        smallest = np.repeat(np.minimum.reduceat(logprobs, starts), counts)
        weight = np.add.reduceat(np.exp((logprobs + smallest) / 2), starts)
        step = np.sqrt(1.5 * MAX_KL_NATS / weight)
        return np.clip(np.rint(-4 * np.log2(step) - 13), 0, 15).astype(np.int64)

    def _within_bounds(self, given, decoded, given_tails, tails, counts) -> np.ndarray:
        """Which positions keep both promises of the codec."""
        starts = first_entries(counts)
        good = np.maximum.reduceat(np.abs(given - decoded), starts) <= MAX_LOGPROB_ERROR
        for column, temperature in enumerate(self._temperatures):
            kl = closed_kl(
                given, decoded, given_tails[:, column], tails[:, column], counts, temperature
            )
            good &= kl <= MAX_KL_NATS
        return good


def closed_kl(
    given: np.ndarray,
    decoded: np.ndarray,
    given_tail: np.ndarray,
    decoded_tail: np.ndarray,
    counts: np.ndarray,
    temperature: float,
) -> np.ndarray:
    """KL(given || decoded) of two sparse distributions with the same ids.

    Args:
      given: Logprobs at temperature 1, [entries].
      decoded: Logprobs at temperature 1, [entries].
      given_tail: Tail logprobs at `temperature`, [n].
      decoded_tail: Tail logprobs at `temperature`, [n].
      counts: Entries at each position, [n].
      temperature: At which the distributions are compared.

    Returns:
      Nats per position, float64 [n], over the entries and the tail as one more outcome.
    """
    starts = first_entries(counts)

    def close(logprobs: np.ndarray, tail: np.ndarray) -> np.ndarray:
        scaled = logprobs.astype(np.float64) / temperature
        largest = np.maximum.reduceat(scaled, starts)
        mass = np.add.reduceat(np.exp(scaled - np.repeat(largest, counts)), starts)
        return scaled + np.repeat(_log1mexp(tail) - largest - np.log(mass), counts)

    p, q = close(given, given_tail), close(decoded, decoded_tail)
    has_tail = given_tail > -np.inf
    tail = np.where(has_tail, given_tail, 0.0)  # its term is 0 where there is no tail
    tail_term = np.exp(tail) * (tail - np.where(has_tail, decoded_tail, 0.0))
    return np.add.reduceat(np.exp(p) * (p - q), starts) + tail_term


class DrawCounts:
    """How often each id was drawn: exactly log(count / num_draws), and no tail."""

    num_tails = 0

    def __init__(self, num_draws: int):
        self._num_draws = num_draws

    def stream_lengths(self, positions: np.ndarray, entries: np.ndarray) -> list[np.ndarray]:
        """Of counts."""
        del positions
        return [entries]

    def encode(self, targets: SparseTargets) -> tuple[np.ndarray, list[np.ndarray]]:
        """Counts, less 1; `tail_logprobs` is -inf by definition."""
        counts = np.rint(np.exp(targets.logprobs) * self._num_draws).astype(np.int64)
        return np.zeros((len(targets.counts), 0), "<f2"), [counts - 1]

    def decode(
        self, streams: Sequence[np.ndarray], tails: np.ndarray, counts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Shares of the draws."""
        (draws,) = streams
        logprobs = np.log((draws + 1) / self._num_draws).astype(np.float32)
        return logprobs, np.full((len(counts), 1), -np.inf, np.float32)


def _root_logprobs(
    levels: np.ndarray, steps: np.ndarray, counts: np.ndarray, tail: np.ndarray
) -> np.ndarray:
    """Logprobs, float32 [entries], that levels stand for when the tail is given."""
    unit = np.float32(2.0**-16)  # keeps the fourth power of a root of DEPTH_NATS finite
    roots = levels.astype(np.float32)
    roots *= np.repeat(unit * _step(steps).astype(np.float32), counts)
    roots += unit
    squares = roots * roots
    mass = np.add.reduceat(squares * squares, first_entries(counts))
    shift = _log1mexp(tail) - np.log(mass, dtype=np.float64)
    logprobs = np.log(roots)
    logprobs *= 4
    logprobs += np.repeat(shift.astype(np.float32), counts)
    return logprobs


def _step(index: np.ndarray) -> np.ndarray:
    """Distance of two levels, in units of the root of the smallest entry."""
    return np.exp2(-3 - index / 4)


def _log1mexp(x: np.ndarray) -> np.ndarray:
    """log(1 - exp(x)) in float64."""
    return np.log(-np.expm1(x.astype(np.float64)))
