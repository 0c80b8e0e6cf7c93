"""How the `small` codec stores logprobs: as levels of a fourth root, or as counts of draws."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from sentidistill_jax.data.teacher_cache.records import SparseTargets, first_entries

MAX_KL_NATS = 2e-4  # KL(given || decoded) of a position, over its kept entries and the tail
MAX_LOGPROB_ERROR = 0.25  # nats, of a kept entry
DEPTH_NATS = 60.0  # entries further below their position's largest are stored as this far below

_MAX_STEP_INDEX = 31  # reached at no temperature above 0.06


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
