"""Requests to arrays of few shapes, on the host, so that compilations stay bounded."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int

from sentidistill_jax.inference.distribution import SparseDistribution
from sentidistill_jax.inference.requests import GenerateRequest, ScoreRequest

_LENGTH_STEP = 16  # lengths are rounded up to powers of two times 1 or 1.5 of this
_ROW_LENGTHS = (
    128,
    192,
    256,
    320,
    384,
    512,
    768,
    1024,
)  # of rows that short requests are packed into
_SHORT = 512  # tokens up to which requests share rows; each longer one has its own
_LONG_STEP = 1.25  # longer rows are 512 times powers of this, so that a fifth of one is padding
_ATTENTION_PARITY = 1500  # row length at which attention takes as long as all else, roughly


@dataclasses.dataclass(frozen=True)
class Limits:
    """How large a batch may be."""

    tokens: int  # bound on rows x row length, where one row per way allows it
    ways: int  # how often the mesh splits the rows, which must be a multiple of it

    def rows(self, count: int, length: int) -> int:
        """Rows of a batch, at most `count` rounded up to a power of two times `ways`."""
        fitting = max(1, self.tokens // (length * self.ways)) * self.ways
        rows = self.ways
        while rows < count:
            rows *= 2
        return min(rows, fitting)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ScoreBatch:
    """Requests packed into rows."""

    tokens: Int[Array, "rows seq"]
    positions: Int[Array, "rows seq"]  # in the text, a shared prefix included
    segment_ids: Int[Array, "rows seq"]  # 0 is padding
    predict_from: Int[Array, "rows scored"]  # where in the row a prediction is made
    chosen: Int[Array, "rows scored chosen"]
    seeds: Int[Array, "rows scored"]  # of the request that a position belongs to
    offsets: Int[Array, "rows scored"]  # of the position in what that request asks for


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PromptBatch:
    """One prompt per row, after the prefix that all share."""

    tokens: Int[Array, "rows seq"]
    lengths: Int[Array, " rows"]  # tokens of each that are not padding
    seeds: Int[Array, " rows"]
    chosen: Int[Array, "rows chosen"]


def bucket(length: int) -> int:
    """The padded length used for `length` tokens: 16, 24, 32, 48, 64, 96, ..."""
    size = _LENGTH_STEP
    while size < length:
        if size * 3 // 2 >= length:
            return size * 3 // 2
        size *= 2
    return size


def common_prefix(sequences: Sequence[np.ndarray]) -> int:
    """Length of the longest common beginning."""
    if not sequences:
        return 0
    common = sequences[0]
    for sequence in sequences[1:]:
        common = common[: len(sequence)]
        differs = np.flatnonzero(common != sequence[: len(common)])
        if differs.size:
            common = common[: differs[0]]
    return len(common)


def pack(lengths: Sequence[int], row_length: int) -> list[list[int]]:
    """Indices of the sequences in each row: longest first, each into the fullest row it fits."""
    rows: list[list[int]] = []
    by_free: list[list[int]] = [[] for _ in range(row_length + 1)]  # free tokens -> rows
    for index in np.argsort(-np.asarray(lengths), kind="stable"):
        need = lengths[index]
        free = next((free for free in range(need, row_length + 1) if by_free[free]), None)
        if free is None:
            rows.append([])
            row, free = len(rows) - 1, row_length
        else:
            row = by_free[free].pop()
        rows[row].append(int(index))
        by_free[free - need].append(row)
    return rows


def length_groups(lengths: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Splits sequences by length; returns (row length, indices) of each group, shortest first."""
    short: list[int] = []
    long: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        if length <= _SHORT:
            short.append(index)
        else:
            power = math.ceil(math.log(length / _SHORT, _LONG_STEP) - 1e-9)
            size = math.ceil(_SHORT * _LONG_STEP**power / _LENGTH_STEP) * _LENGTH_STEP
            long.setdefault(size, []).append(index)
    groups = sorted(long.items())
    if short:
        groups.insert(0, (_cheapest_row([lengths[index] for index in short]), short))
    return groups


def _cheapest_row(lengths: Sequence[int]) -> int:
    """Longer rows are filled better, but every token in them attends to more that is not seen."""

    def cost(row_length: int) -> float:
        rows = len(pack(lengths, row_length))
        return rows * row_length * (1 + row_length / _ATTENTION_PARITY)

    longest = max(lengths)
    return min((length for length in _ROW_LENGTHS if length >= longest), key=cost)


def score_batches(
    requests: Sequence[ScoreRequest], offset: int, limits: Limits, *, pad_id: int
) -> Iterator[tuple[list[list[int]], ScoreBatch]]:
    """Yields the requests' indices by row, and the rows; requests of like length come together.

    Args:
      requests: At least one.
      offset: Tokens at the beginning of each that a shared prefix covers.
      limits: Of a batch.
      pad_id: Fills rows up to their length.
    """
    lengths = [len(request.inputs) - offset for request in requests]
    width = max(request.chosen.shape[1] for request in requests)
    for row_length, members in length_groups(lengths):
        rows = [
            [members[index] for index in row]
            for row in pack([lengths[index] for index in members], row_length)
        ]
        at_once = limits.rows(len(rows), row_length)
        scored = bucket(max(sum(requests[index].count for index in row) for row in rows))
        for start in range(0, len(rows), at_once):
            packed = rows[start : start + at_once]
            yield (
                packed,
                _packed_batch(
                    requests, packed, offset, (at_once, row_length, scored, width), pad_id
                ),
            )


def _packed_batch(
    requests: Sequence[ScoreRequest],
    packed: list[list[int]],
    offset: int,
    shape: tuple[int, int, int, int],
    pad_id: int,
) -> ScoreBatch:
    rows, row_length, scored, width = shape
    arrays: dict[str, Any] = {
        "tokens": np.full((rows, row_length), pad_id, np.int32),
        "positions": np.full((rows, row_length), offset, np.int32),
        "segment_ids": np.zeros((rows, row_length), np.int32),
        "predict_from": np.zeros((rows, scored), np.int32),
        "chosen": np.full((rows, scored, width), -1, np.int32),
        "seeds": np.zeros((rows, scored), np.int32),
        "offsets": np.zeros((rows, scored), np.int32),
    }
    for row, indices in enumerate(packed):
        views = {name: array[row] for name, array in arrays.items()}
        _fill_row(views, [requests[index] for index in indices], offset)
    return ScoreBatch(**arrays)


def _fill_row(row: dict[str, np.ndarray], requests: list[ScoreRequest], offset: int) -> None:
    at, scored_at = 0, 0
    for segment, request in enumerate(requests, start=1):
        own = request.inputs[offset:]
        here = slice(at, at + len(own))
        there = slice(scored_at, scored_at + request.count)
        row["tokens"][here] = own
        row["positions"][here] = offset + np.arange(len(own))
        row["segment_ids"][here] = segment
        row["predict_from"][there] = here.stop - request.count + np.arange(request.count)
        row["seeds"][there] = request.seed
        row["offsets"][there] = np.arange(request.count)
        row["chosen"][there, : request.chosen.shape[1]] = request.chosen
        at, scored_at = here.stop, there.stop


def unpack(
    requests: Sequence[ScoreRequest], packed: list[list[int]], scores: SparseDistribution
) -> Iterator[tuple[int, SparseDistribution]]:
    """Yields (index of the request, its distributions [count, ...]) of a batch's fetched scores."""
    for row, indices in enumerate(packed):
        at = 0
        for index in indices:
            cut = (row, slice(at, at + requests[index].count))
            at = cut[1].stop
            yield index, jax.tree.map(lambda leaf, cut=cut: leaf[cut], scores)


def prompt_batches(
    requests: Sequence[GenerateRequest], offset: int, budget: int, limits: Limits, *, pad_id: int
) -> Iterator[tuple[list[int], PromptBatch]]:
    """Yields the indices of the requests of a batch, and the batch; all have one shape.

    Args:
      requests: At least one; those of like length come together.
      offset: Tokens at the beginning of each that a shared prefix covers.
      budget: Tokens to be generated, which take room as well.
      limits: Of a batch.
      pad_id: Fills rows up to their length.
    """
    lengths = np.array([len(request.tokens) - offset for request in requests])
    padded = bucket(int(lengths.max()))
    rows = limits.rows(len(requests), padded + budget)
    width = max(len(request.chosen) for request in requests)
    order = np.argsort(lengths, kind="stable").tolist()
    for start in range(0, len(order), rows):
        indices = order[start : start + rows]
        arrays: dict[str, Any] = {
            "tokens": np.full((rows, padded), pad_id, np.int32),
            "lengths": np.ones((rows,), np.int32),
            "seeds": np.zeros((rows,), np.int32),
            "chosen": np.full((rows, width), -1, np.int32),
        }
        for row, index in enumerate(indices):
            request = requests[index]
            arrays["tokens"][row, : lengths[index]] = request.tokens[offset:]
            arrays["lengths"][row] = lengths[index]
            arrays["seeds"][row] = request.seed
            arrays["chosen"][row, : len(request.chosen)] = request.chosen
        yield indices, PromptBatch(**arrays)
