"""Continuous batching: rows of continuations that end make room for prompts that wait.

The host side of decoding. The device writes many tokens of all rows between two looks; what a row
writes depends on its prompt and seed alone, not on the rows beside it.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from sentidistill_jax.inference import steps
from sentidistill_jax.inference.distribution import Keep, SparseDistribution
from sentidistill_jax.inference.reader import Reader, Run
from sentidistill_jax.inference.requests import GenerateRequest, Generation
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.inference.shapes import padded

_NARROW = 4  # a long tail of few rows goes on with so many times fewer
_FULL_ENOUGH = 0.75  # of a batch of prompts, before it is read


@dataclasses.dataclass(frozen=True)
class Stops:
    """Runs of tokens that end a continuation."""

    runs: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, ids: Sequence[int], sequences: Sequence[Sequence[int]]) -> "Stops":
        """Single tokens, and runs of several."""
        runs = [(int(token),) for token in ids]
        return cls(tuple(runs + [tuple(map(int, run)) for run in sequences if len(run)]))

    def table(self) -> np.ndarray:
        """The runs [stops, length], right-aligned, in a shape that many share."""
        longest = padded(max(map(len, self.runs), default=1), 1)
        table = np.full((padded(len(self.runs), 4), longest), steps.NO_STOP, np.int32)
        for row, run in enumerate(self.runs):
            table[row] = steps.ANY_TOKEN
            table[row, longest - len(run) :] = run
        return table

    def end(self, tokens: Sequence[int]) -> bool:
        """Whether the last tokens are one of the runs."""
        return any(tuple(tokens[-len(run) :]) == run for run in self.runs)


@dataclasses.dataclass
class _Row:
    """One continuation under way."""

    index: int  # of the request
    tokens: list[int] = dataclasses.field(default_factory=list)
    distributions: list[SparseDistribution] = dataclasses.field(default_factory=list)

    def add(self, drawn: steps.Drawn, at: Any, count: int) -> None:
        """Takes over what the device drew for this row: the first `count` entries at `at`."""
        self.tokens += np.atleast_1d(drawn.tokens[at])[:count].tolist()
        if drawn.distribution is not None:
            self.distributions.append(
                jax.tree.map(lambda leaf: leaf[at][:count], drawn.distribution)
            )


class Scheduler:
    """One run over some prompts.

    Args:
      run: Runs a step.
      put: Places a host array whose rows are a batch's.
      reader: Reads the prompts.
      requests: The prompts and what is asked of each.
      rows: Continuations under way at one time.
      length: Slots of a row: for what the reader reads of a prompt, and its continuation.
      sampling: How tokens are drawn.
      stops: What ends a continuation.
      is_complete: Whether a continuation says all; it is cut at the first token that makes it so.
      keep: What is kept of distributions, None for nothing.
      tokens_at_once: Tokens that the device writes between two looks of the host.
      vocab_size: Of the model.
      narrow: Whether few rows cost less than many.
    """

    def __init__(
        self,
        run: Run,
        put: Callable[[Any], Any],
        reader: Reader,
        requests: Sequence[GenerateRequest],
        *,
        rows: int,
        length: int,
        sampling: SamplingConfig,
        stops: Stops,
        is_complete: Callable[[np.ndarray], bool] | None,
        keep: Keep | None,
        tokens_at_once: int,
        vocab_size: int,
        narrow: bool,
    ):
        self._run, self._put, self._reader, self._requests = run, put, reader, requests
        self._tokens_at_once, self._narrow = tokens_at_once, narrow
        self._sampling, self._stops, self._is_complete, self._keep = (
            sampling, stops, is_complete, keep,
        )  # fmt: skip
        self._vocab_size = vocab_size
        self._table = stops.table()
        self._width = max((len(request.chosen) for request in requests), default=0)
        self._rows: list[_Row | None] = [None] * rows
        self._first: list[tuple[list[tuple[int, int]], steps.Drawn]] = []
        self._state: steps.DecodeState = run(
            steps.empty_rows,
            rows=rows,
            length=length,
            stop_length=self._table.shape[1],
            chosen=self._width,
            penalized=sampling.repetition_penalty != 1,
        )

    def generate(self) -> Iterator[tuple[int, Generation]]:
        """Yields (index of the request, its continuation) as they end."""
        while True:
            live = sum(row is not None for row in self._rows)
            waiting = self._reader.num_waiting
            room = min(len(self._rows) - live, self._reader.shape.rows)
            if waiting and (room >= self._enough(waiting) or not live):
                self._admit(room)
                continue
            if not live:
                return
            if self._narrow and not waiting and live <= len(self._rows) // _NARROW:
                self._drop_idle_rows()
            yield from self._decode(waiting)

    def _enough(self, waiting: int) -> int:
        """Prompts for which reading is worth while."""
        return max(1, int(_FULL_ENOUGH * min(self._reader.shape.rows, waiting)))

    def _admit(self, room: int) -> None:
        """Reads prompts, and starts their rows."""
        size = self._reader.shape.rows
        indices, cache, picked = self._reader.read_next(room, lambda index: 1, size)
        asked: dict[str, Any] = {
            "rows": np.full(size, len(self._rows), np.int32),
            "lengths": np.zeros(size, np.int32),
            "seeds": np.zeros(size, np.int32),
            "chosen": np.full((size, self._width), -1, np.int32),
            "seen": self._seen(indices, size),
        }
        started = []
        for number, index in enumerate(indices):
            free = self._rows.index(None)
            self._rows[free] = _Row(index)
            request = self._requests[index]
            asked["rows"][number] = free
            asked["lengths"][number] = len(request.tokens)
            asked["seeds"][number] = request.seed
            asked["chosen"][number, : len(request.chosen)] = request.chosen
            started.append((number, free))
        self._state, drawn = self._run(
            steps.admit, self._state, cache, picked, steps.Rows(**asked), self._table,
            self._sampling.max_new_tokens, self._sampling.repetition_penalty,
            sampling=self._sampling.compiled, keep=self._keep,
        )  # fmt: skip
        self._first.append((started, drawn))  # looked at with what is decoded next

    def _decode(self, waiting: int) -> Iterator[tuple[int, Generation]]:
        """Writes to all rows for a while, and lets go of those that have ended."""
        # Enough rows must be free before reading goes on.
        leave_at = len(self._rows) - self._enough(waiting) if waiting else 0
        before = {number: len(row.tokens) for number, row in enumerate(self._rows) if row}
        self._state, drawn = self._run(
            steps.decode, self._state, self._reader.prefix, self._ended(), self._table,
            self._sampling.max_new_tokens, leave_at, self._sampling.repetition_penalty,
            steps=self._tokens_at_once, sampling=self._sampling.compiled, keep=self._keep,
        )  # fmt: skip
        first, drawn, written, live_now = jax.device_get(
            (self._first, drawn, self._state.written, self._state.live)
        )
        for started, drawn_first in first:
            for number, row in started:
                self._at(row).add(drawn_first, slice(number, number + 1), 1)
                before[row] = 1
        self._first = []
        for number in before:
            row = self._at(number)
            count = int(written[number]) - before[number]
            row.add(drawn, (slice(None), number), count)
            generation = self._ending(row, ended=not live_now[number])
            if generation is not None:
                self._rows[number] = None
                yield row.index, generation

    def _ending(self, row: _Row, *, ended: bool) -> Generation | None:
        """The continuation if it is over."""
        stopped = self._stops.end(row.tokens)
        length = len(row.tokens)
        if self._is_complete is not None:
            tokens = np.array(row.tokens, np.int32)
            # A stop is not part of what is looked at.
            lengths = range(1, length + 1 - stopped)
            if self._is_complete(tokens[: length - stopped]):
                length = next(n for n in lengths if self._is_complete(tokens[:n]))
                ended = stopped = True
        if not ended:
            return None
        distribution = None
        if row.distributions:
            distribution = jax.tree.map(
                lambda *parts: np.concatenate(parts)[:length], *row.distributions
            )
        return Generation(np.array(row.tokens[:length], np.int32), stopped, distribution)

    def _ended(self) -> np.ndarray:
        """Rows that the host has let go."""
        return np.array([row is None for row in self._rows])

    def _seen(self, indices: Sequence[int], size: int) -> Any:
        if self._sampling.repetition_penalty == 1:
            return None
        seen = np.zeros((size, self._vocab_size), np.bool_)
        for row, index in enumerate(indices):
            seen[row, self._requests[index].tokens] = True
        return self._put(seen)

    def _drop_idle_rows(self) -> None:
        numbers = sorted(range(len(self._rows)), key=lambda number: self._rows[number] is None)
        kept = numbers[: len(self._rows) // _NARROW]
        self._rows = [self._rows[number] for number in kept]
        self._narrow = False
        self._state = self._run(steps.take_rows, self._state, np.array(kept, np.int32))

    def _at(self, number: int) -> _Row:
        row = self._rows[number]
        assert row is not None
        return row
