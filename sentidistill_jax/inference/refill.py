"""Greedy continuations of many prompts: rows that end are refilled, long tails run narrow.

The host side. What a row writes depends on its prompt alone, not on the rows beside it.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sentidistill_jax.inference import refill_steps as steps
from sentidistill_jax.inference.batching import bucket
from sentidistill_jax.inference.requests import Generation
from sentidistill_jax.models.kv_cache import EMPTY, KVCache

_CHUNK = 32  # tokens of every prompt that are read in one call
_STEPS = 4  # tokens that every row writes between two looks at them
_SLOT_STEP = 64  # cache lengths are multiples of it, which bounds the compilations
_SHIFT_EVERY = 32  # slots to write before the tokens must be moved back to the start

Run = Callable[..., Any]  # runs a step of `refill_steps` on an engine's parameters and mesh
Ended = Callable[[np.ndarray], bool]  # whether a continuation is complete


@dataclasses.dataclass(frozen=True)
class RefillConfig:
    """How many rows run together, and how they end."""

    max_new_tokens: int
    stop_ids: tuple[int, ...]
    rows: int = 64  # written to at one time
    group: int = 16  # prompts read at one time, once so many rows are free
    repetition_penalty: float = 1.0


@dataclasses.dataclass
class _Row:
    """One continuation under way."""

    index: int  # of the prompt
    filled: int  # slots from its first token to the next free one
    position: int  # of its latest token in the text, which is still to be read
    tokens: list[int]


class Refill:
    """One run over some prompts.

    Args:
      run: Runs a step.
      prefix: What all prompts begin with, already read.
      prompts: Token ids, the prefix included.
      vocab_size: Of the model.
      pad_id: Fills prompts on their left; never attended to.
      config: See there; `rows` and `group` must be multiples of the ways a batch is split.
      put: Places a host array whose rows are a batch's.
      fetch: Brings a result to the host of every process.
    """

    def __init__(
        self,
        run: Run,
        prefix: KVCache | None,
        prompts: Sequence[Int[np.ndarray, " seq"]],
        *,
        vocab_size: int,
        pad_id: int,
        config: RefillConfig,
        put: Callable[[Any], Any],
        fetch: Callable[[Any], Any],
    ):
        self._run, self._put, self._fetch = run, put, fetch
        self._prefix, self._offset = prefix, 0 if prefix is None else prefix.length
        self._prompts = prompts
        self._vocab_size, self._pad_id = vocab_size, pad_id
        self._config = config
        # Prompts of like length are read together, and the cache grows with them.
        lengths = [len(prompt) for prompt in prompts]
        self._waiting = np.argsort(lengths, kind="stable")[::-1].tolist()

    def next_logprobs(
        self, ids: Int[np.ndarray, " chosen"]
    ) -> Iterator[tuple[int, Float[np.ndarray, " chosen"]]]:
        """Yields (index of the prompt, logprobs of some tokens as the next one)."""
        while self._waiting:
            group = self._next_group(self._config.group)
            _, hidden, seen = self._read(group)
            penalty = self._config.repetition_penalty
            logprobs = self._fetch(self._run(steps.first_logprobs, hidden, seen, penalty=penalty))
            for row, index in enumerate(group):
                yield index, logprobs[row, ids]

    def complete(self, ended: Ended) -> Iterator[tuple[int, Generation]]:
        """Yields (index of the prompt, its continuation) as they end.

        Args:
          ended: Whether a continuation is complete; it is cut at the first token that makes it so.
        """
        config = self._config
        rows: list[_Row | None] = [None] * config.rows
        cache: KVCache | None = None
        seen: Any = None
        used = 0
        while True:
            free = [number for number, row in enumerate(rows) if row is None]
            active = [row for row in rows if row is not None]
            if self._waiting and len(free) >= min(config.group, len(self._waiting)):
                group = self._next_group(min(config.group, len(free)))
                prompts, hidden, seen_there = self._read(group)
                penalty = config.repetition_penalty
                first = self._fetch(
                    self._run(steps.first_tokens, hidden, seen_there, penalty=penalty)
                )
                need = max([prompts.length, *(row.filled for row in active)])
                cache, used = self._with_room(cache, used, need, len(rows))
                where = np.full((config.group,), len(rows), np.int32)
                where[: len(group)] = free[: len(group)]
                cache = self._run(steps.insert, cache, prompts, where, len(group))
                if seen_there is not None:
                    seen = self._insert_seen(seen, seen_there, where, len(rows))
                for number, index, token in zip(free, group, first, strict=False):
                    length = len(self._prompts[index])
                    row = _Row(index, length - self._offset, length, [int(token)])
                    rows[number] = row
                    if generation := self._ending(row, 0, ended):
                        rows[number] = None
                        yield index, generation
                continue
            if not active:
                return
            if not self._waiting and len(rows) > config.group >= len(active):
                kept = [number for number, row in enumerate(rows) if row is not None]
                kept += free[: config.group - len(kept)]
                rows = [rows[number] for number in kept]
                cache, seen = self._run(steps.take, cache, seen, np.array(kept, np.int32))
            need = max(row.filled for row in active)
            cache, used = self._with_room(cache, used, need, len(rows))
            tokens = np.array([row.tokens[-1] if row else self._pad_id for row in rows], np.int32)
            positions = np.array([row.position if row else EMPTY for row in rows], np.int32)
            cache, seen, drawn = self._run(
                steps.decode, self._put(tokens), self._put(positions), cache, seen, self._prefix,
                steps=_STEPS, penalty=config.repetition_penalty,
            )  # fmt: skip
            used += _STEPS
            drawn = self._fetch(drawn)
            for number, row in enumerate(rows):
                if row is None:
                    continue
                before = len(row.tokens)
                row.tokens += drawn[:, number].tolist()
                row.filled += _STEPS
                row.position += _STEPS
                if generation := self._ending(row, before, ended):
                    rows[number] = None
                    yield row.index, generation

    def _ending(self, row: _Row, checked: int, ended: Ended) -> Generation | None:
        """The continuation if it is over; its first `checked` tokens are known not to end it."""
        config = self._config
        tokens = np.array(row.tokens[: config.max_new_tokens], np.int32)
        stops = np.flatnonzero(np.isin(tokens[checked:], config.stop_ids))
        over = len(tokens) == config.max_new_tokens
        last = checked + int(stops[0]) + 1 if stops.size else len(tokens)
        if ended(tokens[: last - bool(stops.size)]):
            length = next(n for n in range(checked + 1, last + 1) if ended(tokens[:n]))
            return Generation(tokens[:length], True, None)
        if stops.size:
            return Generation(tokens[:last], True, None)
        return Generation(tokens, False, None) if over else None

    def _next_group(self, most: int) -> list[int]:
        group = self._waiting[-most:][::-1]
        del self._waiting[-most:]
        return group

    def _read(self, group: Sequence[int]) -> tuple[KVCache, Any, Any]:
        """A cache of the group's prompts, hidden states after them, and the tokens in them."""
        config = self._config
        own = [self._prompts[index][self._offset :] for index in group]
        longest = max(map(len, own))
        read = -(-longest // _CHUNK) * _CHUNK
        length = max(read, bucket(longest))
        tokens = np.full((config.group, read), self._pad_id, np.int32)
        positions = np.full((config.group, read), EMPTY, np.int32)
        for row, prompt in enumerate(own):
            tokens[row, read - len(prompt) :] = prompt
            positions[row, read - len(prompt) :] = self._offset + np.arange(len(prompt))
        cache = self._run(steps.empty, length - read, rows=config.group, length=length)
        hidden = None
        for start in range(0, read, _CHUNK):
            chunk = slice(start, start + _CHUNK)
            cache, hidden = self._run(
                steps.read_chunk, self._put(tokens[:, chunk]), self._put(positions[:, chunk]),
                cache, self._prefix,
            )  # fmt: skip
        seen = None
        if config.repetition_penalty != 1:
            seen = np.zeros((config.group, self._vocab_size), np.bool_)
            for row, index in enumerate(group):
                seen[row, self._prompts[index]] = True
            seen = self._put(seen)
        return cache, hidden, seen

    def _insert_seen(self, seen: Any, there: Any, where: np.ndarray, rows: int) -> Any:
        if seen is None:
            seen = self._put(np.zeros((rows, self._vocab_size), np.bool_))
        return self._run(steps.insert_seen, seen, there, where)

    def _with_room(
        self, cache: KVCache | None, used: int, need: int, rows: int
    ) -> tuple[KVCache, int]:
        """The cache with `need` slots or more before the next free one, and room after that."""
        if cache is None:
            length = _rounded(need + _SHIFT_EVERY)
            return self._run(steps.empty, need, rows=rows, length=length), need
        if need + _STEPS > cache.length:
            cache = self._run(steps.grow, cache, length=_rounded(need + _SHIFT_EVERY))
            assert cache is not None
        if used < need or used + _STEPS > cache.length:
            return self._run(steps.move, cache, need), need
        return cache, used


def _rounded(slots: int) -> int:
    return -(-slots // _SLOT_STEP) * _SLOT_STEP
