"""Prompts behind the beginnings that they share, read into a cache in batches of one shape."""

import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from sentidistill_jax.inference import steps
from sentidistill_jax.inference.shapes import ReadShape, slots
from sentidistill_jax.inference.shared_beginnings import PromptGroup
from sentidistill_jax.models.kv_cache import EMPTY, KVCache, SharedPrefix

Run = Callable[..., Any]  # runs a function of `steps` on an engine's parameters and mesh

_PREFIX_CHUNK = 256  # tokens of a beginning in one call


@dataclasses.dataclass(frozen=True)
class Waiting:
    """A prompt still to be read."""

    index: int
    beginning: int  # row of the beginnings that have been read; -1: none
    start: int  # tokens of the beginning


@dataclasses.dataclass(frozen=True)
class ReadPrompts:
    """Prompts that have been read, one per row from the first on."""

    prompts: list[Waiting]
    cache: KVCache  # all end at its latest slot; holds until the next are read
    own: int  # of the latest slots hold what is behind the beginnings
    picked: Float[Array, "picks embed"]  # hidden states that were asked for, prompt by prompt


class Reader:
    """Reads all prompts of a call, batch by batch.

    One beginning that all share is read once, and every row looks at it where it lies. Several are
    read together, each once, and copied to the rows that read their prompts.

    Args:
      run: Runs a step.
      put: Places a host array whose rows are a batch's.
      prompts: Token ids.
      groups: Which of them begin alike; all of them or some.
      shape: Shape of a batch, long enough for a prompt with its beginning, or without if there is
        one for all.
      picked: Makes the hidden states that a batch returns, before there are any.
      pad_id: Fills rows; never attended to.
    """

    def __init__(
        self,
        run: Run,
        put: Callable[[Any], Any],
        prompts: Sequence[Int[np.ndarray, "_"]],
        groups: Sequence[PromptGroup],
        *,
        shape: ReadShape,
        picked: Callable[[], Float[Array, "picks embed"]],
        pad_id: int,
    ):
        self._run, self._put = run, put
        self._prompts, self._pad_id = prompts, pad_id
        self.shape, self._new_picked = shape, picked
        self.prefix: SharedPrefix | None = None  # the one beginning of all
        self.beginnings: KVCache | None = None  # of the prompts that wait, if there are several
        self.waiting: list[Waiting] = []  # whose beginnings have been read, the shortest first
        self._cache: KVCache | None = None
        self._groups = deque(sorted(groups, key=lambda group: group.length))
        if len(groups) == 1 and groups[0].length:
            self.prefix = self._read_prefix(groups[0])
        self.num_waiting = sum(len(group.members) for group in groups)

    def open_groups(self) -> None:
        """Reads the beginnings of the next groups, once no prompt of the last ones waits."""
        if self.waiting or not self._groups:
            return
        opened = [self._groups.popleft() for _ in range(min(len(self._groups), self.shape.rows))]
        self.beginnings = None
        if self.prefix is None and any(group.length for group in opened):
            texts = [self._prompts[group.members[0]][: group.length] for group in opened]
            starts = [0] * len(texts)
            self.beginnings, _ = self._chunks(self._new_cache(), texts, starts, [], True)
        self.waiting = [
            Waiting(index, row if group.length else -1, group.length)
            for row, group in enumerate(opened)
            for index in group.members
        ]
        # Prompts of like length are read together.
        self.waiting.sort(key=lambda one: len(self._prompts[one.index]) - one.start)

    def read(
        self, chosen: Sequence[Waiting], picks: Callable[[int], int] = lambda index: 1
    ) -> ReadPrompts:
        """Reads some of those that wait, no more than there are rows.

        Args:
          chosen: Prompts.
          picks: How many of the last hidden states of a prompt, by its index, are wanted.
        """
        taken = {one.index for one in chosen}
        self.waiting = [one for one in self.waiting if one.index not in taken]
        self.num_waiting -= len(chosen)
        own = [self._prompts[one.index][one.start :] for one in chosen]
        width = self._whole_chunks(max(map(len, own)))
        where = [
            (row, width - distance)
            for row, one in enumerate(chosen)
            for distance in range(picks(one.index), 0, -1)
        ]
        cache, first = self._start(chosen)
        self._cache, picked = self._chunks(cache, own, [one.start for one in chosen], where, first)
        return ReadPrompts(list(chosen), self._cache, width, picked)

    def _start(self, chosen: Sequence[Waiting]) -> tuple[KVCache, bool]:
        """The cache that a batch goes on from, and whether what it holds is to be forgotten."""
        if self.beginnings is not None:
            rows = np.full(self.shape.rows, -1, np.int32)
            rows[: len(chosen)] = [one.beginning for one in chosen]
            return self._run(steps.start_rows, self.beginnings, rows), False
        return self._cache if self._cache is not None else self._new_cache(), True

    def _read_prefix(self, group: PromptGroup) -> SharedPrefix:
        """Reads the one beginning by itself, from the first slot on."""
        text = self._prompts[group.members[0]][: group.length]
        length = max(slots(len(text)), _PREFIX_CHUNK)
        tokens = np.full((1, length), self._pad_id, np.int32)
        positions = np.full((1, length), EMPTY, np.int32)
        tokens[0, : len(text)], positions[0, : len(text)] = text, np.arange(len(text))
        cache = self._run(steps.empty_cache, rows=1, length=length)
        picked = self._new_picked()
        for start in range(0, len(text), _PREFIX_CHUNK):
            chunk = slice(start, start + _PREFIX_CHUNK)
            cache, picked = self._run(
                steps.read, tokens[:, chunk], positions[:, chunk], start == 0, cache, None,
                _no_picks(len(picked)), picked,
            )  # fmt: skip
        return SharedPrefix(cache.key, cache.value, cache.positions, cache.used)

    def _chunks(
        self,
        cache: KVCache,
        texts: Sequence[np.ndarray],
        starts: Sequence[int],
        where: Sequence[tuple[int, int]],
        first: bool,
    ) -> tuple[KVCache, Any]:
        """Reads texts, one per row, that all end at the last token of the last chunk."""
        width = self._whole_chunks(max(map(len, texts)))
        tokens = np.full((self.shape.rows, width), self._pad_id, np.int32)
        positions = np.full((self.shape.rows, width), EMPTY, np.int32)
        for row, (text, start) in enumerate(zip(texts, starts, strict=True)):
            tokens[row, width - len(text) :] = text
            positions[row, width - len(text) :] = start + np.arange(len(text))
        picked = self._new_picked()
        rows, columns = _no_picks(len(picked))
        for number, (row, column) in enumerate(where):
            rows[number], columns[number] = row, column
        for start in range(0, width, self.shape.chunk):
            chunk = slice(start, start + self.shape.chunk)
            within = (columns >= start) & (columns < chunk.stop)
            cache, picked = self._run(
                steps.read, self._put(tokens[:, chunk]), self._put(positions[:, chunk]),
                first and start == 0, cache, self.prefix,
                (rows, np.where(within, columns - start, -1).astype(np.int32)), picked,
            )  # fmt: skip
        return cache, picked

    def _new_cache(self) -> KVCache:
        return self._run(steps.empty_cache, rows=self.shape.rows, length=self.shape.length)

    def _whole_chunks(self, tokens: int) -> int:
        return -(-tokens // self.shape.chunk) * self.shape.chunk


def _no_picks(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(count, np.int32), np.full(count, -1, np.int32)
