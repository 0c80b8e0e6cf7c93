"""Continuous batching: rows of continuations that end make room for prompts that wait.

The host side of decoding. The device writes many tokens of all rows between two looks; what a row
writes depends on its prompt and seed alone, not on the rows beside it.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from sentidistill_jax.inference import steps
from sentidistill_jax.inference.distribution import Keep, SparseDistribution
from sentidistill_jax.inference.reader import Reader, Run, Waiting
from sentidistill_jax.inference.requests import GenerateRequest, Generation
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.inference.shapes import padded
from sentidistill_jax.models.kv_cache import SharedPrefix

_ROWS_TOGETHER = 4  # that follow one beginning
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


class _Beginnings:
    """Which rows stand behind which beginning.

    Rows are divided into blocks, and those of a block follow one beginning, which is read where it
    lies: a copy in every row would be read as often as there are rows. Where all prompts share one
    beginning, or none has any, there is one block.
    """

    def __init__(self, run: Run, reader: Reader, rows: int):
        self._run, self._reader = run, reader
        reader.open_groups()
        self._several = reader.beginnings is not None
        self.num_blocks = max(1, rows // _ROWS_TOGETHER) if self._several else 1
        self.prefix: SharedPrefix | None = reader.prefix
        if self._several:
            length = reader.shape.length
            self.prefix = run(steps.empty_prefix, prefixes=self.num_blocks, length=length)
        self._opened = 0  # how often beginnings have been read
        # What each block follows: the time at which it was read, and its row there.
        self._of_block: list[tuple[int, int] | None] = [None] * self.num_blocks

    def choose(self, live: Sequence[bool]) -> list[tuple[Waiting, int]]:
        """Prompts to be read next, shortest first, and the row for each."""
        reader = self._reader
        if not reader.waiting:
            reader.open_groups()
            self._opened += 1
        free: dict[int, list[int]] = {-1: [row for row, used in enumerate(live) if not used]}
        if self._several:
            self._assign(live)
            free = self._free(live)
        chosen = []
        for one in reader.waiting:
            rows = free.get(one.beginning if self._several else -1)
            if rows and len(chosen) < reader.shape.rows:
                chosen.append((one, rows.pop(0)))
        return chosen

    def _free(self, live: Sequence[bool]) -> dict[int, list[int]]:
        """Beginning that prompts wait for -> free rows behind it."""
        together = len(live) // self.num_blocks
        free: dict[int, list[int]] = defaultdict(list)
        for block, following in enumerate(self._of_block):
            if following is not None and following[0] == self._opened:
                rows = range(block * together, (block + 1) * together)
                free[following[1]] += [row for row in rows if not live[row]]
        return free

    def _assign(self, live: Sequence[bool]) -> None:
        """Gives blocks without a live row to the beginnings that the most prompts wait for."""
        together = len(live) // self.num_blocks
        waiting = Counter(one.beginning for one in self._reader.waiting)
        for beginning, free in self._free(live).items():
            waiting[beginning] -= len(free)
        rows = np.full(self.num_blocks, -1, np.int32)
        replaced = np.zeros(self.num_blocks, np.bool_)
        for block, following in enumerate(self._of_block):
            if any(live[block * together : (block + 1) * together]):
                continue
            if following is not None and following[0] == self._opened:
                if waiting[following[1]] > -together:
                    continue  # its rows will be used
                waiting[following[1]] += together
            beginning, most = max(waiting.items(), key=lambda item: item[1])
            if most > 0:
                waiting[beginning] -= together
                rows[block], replaced[block] = beginning, True
                self._of_block[block] = (self._opened, beginning)
        if replaced.any():
            beginnings = self._reader.beginnings
            self.prefix = self._run(steps.load_prefix, self.prefix, beginnings, rows, replaced)


class Scheduler:
    """One run over some prompts.

    Args:
      run: Runs a step.
      put: Places a host array whose rows are a batch's.
      reader: Reads the prompts.
      requests: The prompts and what is asked of each.
      rows: Continuations under way at one time.
      length: Slots of a row: for a prompt behind its beginning, in whole chunks, and its
        continuation.
      sampling: How tokens are drawn.
      stops: What ends a continuation.
      is_complete: Whether a continuation says all; it is cut at the first token that makes it so.
      keep: What is kept of distributions, None for nothing.
      tokens_at_once: Tokens that the device writes between two looks of the host.
      vocab_size: Of the model.
      narrow: Whether few rows cost less than many.
      data_parallel: Rows are a multiple of it.
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
        data_parallel: int,
    ):
        self._run, self._put, self._reader, self._requests = run, put, reader, requests
        self._tokens_at_once, self._narrow = tokens_at_once, narrow
        self._data_parallel = data_parallel
        self._sampling, self._stops, self._is_complete, self._keep = (
            sampling, stops, is_complete, keep,
        )  # fmt: skip
        self._vocab_size = vocab_size
        self._table = stops.table()
        self._width = max((len(request.chosen) for request in requests), default=0)
        self._rows: list[_Row | None] = [None] * rows
        self._first: list[tuple[list[tuple[int, int]], steps.Drawn]] = []
        self._beginnings = _Beginnings(run, reader, rows)
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
            live = [row is not None for row in self._rows]
            waiting = self._reader.num_waiting
            chosen = self._beginnings.choose(live) if waiting else []
            if chosen and (len(chosen) >= self._enough(waiting) or not any(live)):
                self._admit(chosen)
                continue
            if not any(live):
                return
            if self._narrow and not waiting:
                self._drop_idle_rows(live)
            # It is left early when so many more rows have ended that reading is worth while.
            missing = max(1, self._enough(waiting) - len(chosen)) if waiting else len(live)
            yield from self._decode(max(0, sum(live) - missing))

    def _enough(self, waiting: int) -> int:
        """Prompts for which reading is worth while."""
        return max(1, int(_FULL_ENOUGH * min(self._reader.shape.rows, waiting)))

    def _admit(self, chosen: Sequence[tuple[Waiting, int]]) -> None:
        """Reads prompts, and starts the rows that are chosen for them."""
        size = self._reader.shape.rows
        read = self._reader.read([one for one, _ in chosen])
        asked: dict[str, Any] = {
            "rows": np.full(size, len(self._rows), np.int32),
            "lengths": np.zeros(size, np.int32),
            "seeds": np.zeros(size, np.int32),
            "chosen": np.full((size, self._width), -1, np.int32),
            "seen": self._seen([one.index for one in read.prompts], size),
        }
        started = []
        for number, (one, row) in enumerate(chosen):
            self._rows[row] = _Row(one.index)
            request = self._requests[one.index]
            asked["rows"][number] = row
            asked["lengths"][number] = len(request.tokens)
            asked["seeds"][number] = request.seed
            asked["chosen"][number, : len(request.chosen)] = request.chosen
            started.append((number, row))
        self._state, drawn = self._run(
            steps.admit, self._state, read.cache, read.own, read.picked, steps.Rows(**asked),
            self._table, self._sampling.max_new_tokens, self._sampling.repetition_penalty,
            chunk=self._reader.shape.chunk, sampling=self._sampling.compiled, keep=self._keep,
        )  # fmt: skip
        self._first.append((started, drawn))  # looked at with what is decoded next

    def _decode(self, leave_at: int) -> Iterator[tuple[int, Generation]]:
        """Writes to all rows for a while, and lets go of those that have ended."""
        before = {number: len(row.tokens) for number, row in enumerate(self._rows) if row}
        self._state, drawn = self._run(
            steps.decode, self._state, self._beginnings.prefix, self._ended(), self._table,
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

    def _drop_idle_rows(self, live: Sequence[bool]) -> None:
        """Goes on with few rows where few are live; as many behind each beginning."""
        together = len(live) // self._beginnings.num_blocks
        blocks = [range(at, at + together) for at in range(0, len(live), together)]
        few = together // _NARROW
        if (
            not few
            or few * len(blocks) % self._data_parallel
            or any(sum(live[row] for row in block) > few for block in blocks)
        ):
            return
        kept = [row for block in blocks for row in sorted(block, key=lambda r: not live[r])[:few]]
        self._rows = [self._rows[row] for row in kept]
        self._narrow = False
        self._state = self._run(steps.take_rows, self._state, np.array(kept, np.int32))

    def _at(self, number: int) -> _Row:
        row = self._rows[number]
        assert row is not None
        return row
