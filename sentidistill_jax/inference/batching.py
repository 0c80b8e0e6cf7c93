"""Requests to arrays of few shapes, on the host, so that compilations stay bounded."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int

from sentidistill_jax.inference.distribution import SparseDistribution
from sentidistill_jax.inference.requests import GenerateRequest, ScoreRequest
from sentidistill_jax.inference.row_plan import Limits, Shape, plan_rows

_LENGTH_STEP = 16  # lengths are rounded up to powers of two times 1 or 1.5 of this


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ScoreBatch:
    """Requests packed into rows."""

    tokens: Int[Array, "rows seq"]
    positions: Int[Array, "rows seq"]  # in the text, a shared prefix included
    segment_ids: Int[Array, "rows seq"] | None  # 0 is padding; None: a request in each row
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
    for group in plan_rows(lengths, limits):
        most = max(sum(requests[index].count for index in row) for row in group.rows)
        scored = most if most == 1 else bucket(most)
        for start in range(0, len(group.rows), group.shape.rows):
            rows = group.rows[start : start + group.shape.rows]
            yield rows, _batch(requests, rows, offset, group.shape, (scored, width), pad_id)


def _batch(
    requests: Sequence[ScoreRequest],
    members: list[list[int]],
    offset: int,
    shape: Shape,
    predicted: tuple[int, int],
    pad_id: int,
) -> ScoreBatch:
    rows, row_length, shared = shape
    scored, width = predicted
    arrays: dict[str, Any] = {
        "tokens": np.full((rows, row_length), pad_id, np.int32),
        "positions": np.full((rows, row_length), offset, np.int32),
        "segment_ids": np.zeros((rows, row_length), np.int32),
        "predict_from": np.zeros((rows, scored), np.int32),
        "chosen": np.full((rows, scored, width), -1, np.int32),
        "seeds": np.zeros((rows, scored), np.int32),
        "offsets": np.zeros((rows, scored), np.int32),
    }
    for row, indices in enumerate(members):
        views = {name: array[row] for name, array in arrays.items()}
        _fill_row(views, [requests[index] for index in indices], offset)
    if not shared:  # nothing looks ahead, so that padding behind a text is not seen
        arrays["segment_ids"] = None
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
