"""How sequences are put into rows of few shapes: the cheapest way, compiling included."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_PACKED = 512  # tokens up to which sequences may share rows
_PACKED_ROWS = (128, 192, 256, 320, 384, 512, 768, 1024)  # lengths of shared rows
_ATTENTION_PARITY = 3000  # row length at which attention takes as long as all else, roughly
_MOST_SIZES = 64  # lengths that are told apart, which bounds the search


class Shape(NamedTuple):
    """Of a batch, as far as it decides what is compiled."""

    rows: int
    length: int
    shared: bool  # whether several sequences may stand in a row


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a batch may be, and what a new shape costs."""

    tokens: int  # bound on rows x row length, where one row per way allows it
    ways: int  # how often the mesh splits the rows, which must be a multiple of it
    length_step: int = 16  # rows are a multiple of this long
    compilation: int = 0  # tokens that are read in the time that a shape takes to compile

    def rows(self, count: int, length: int) -> int:
        """Rows of a batch, at most `count` rounded up to a power of two times `ways`."""
        rows = self.ways
        while rows < count:
            rows *= 2
        return min(rows, self._most_rows(length))

    def even_rows(self, count: int, length: int) -> int:
        """Rows of as few batches as hold `count`, with hardly an empty one in the last."""
        most = self._most_rows(length)
        batches = -(-count // most)
        rows = -(-count // (batches * self.ways))
        # Four sizes from a power of two to the next, so that few shapes are compiled.
        step = max(1, 2 ** ((rows - 1).bit_length() - 3))
        return min(-(-rows // step) * step * self.ways, most)

    def _most_rows(self, length: int) -> int:
        return max(1, self.tokens // (length * self.ways)) * self.ways


@dataclasses.dataclass(frozen=True)
class Group:
    """Rows that are read in batches of one shape."""

    shape: Shape
    rows: list[list[int]]  # indices of the sequences in each

    def cost(self, limits: Limits) -> float:
        """In tokens of a short row."""
        return _cost(len(self.rows), self.shape, limits)


def plan_rows(lengths: Sequence[int], limits: Limits) -> list[Group]:
    """The groups that are read fastest, by their number of tokens; shortest rows first.

    Short sequences share rows of one shape, or each has a row of its own, in groups of like length.
    Shared rows need one compilation and have little padding, but every token is also compared with
    the other sequences of its row; so they are best where compiling is dear.

    What was compiled before is not asked: the plan, and with it every rounding, depends on the
    lengths alone, so that a run that is resumed writes the same bytes.

    Args:
      lengths: Tokens of each sequence, at least one.
      limits: Of a batch.
    """
    order = np.argsort(lengths, kind="stable").tolist()
    short = [index for index in order if lengths[index] <= _PACKED]
    of_long = _apart(order[len(short) :], lengths, limits)
    plans = [_apart(order, lengths, limits)]
    for row_length in _PACKED_ROWS:
        group = _together(short, lengths, limits, row_length)
        plans += [[group, *of_long]] if group else []
    return min(plans, key=lambda groups: sum(group.cost(limits) for group in groups))


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


def _cost(rows: int, shape: Shape, limits: Limits) -> float:
    read = -(-rows // shape.rows) * shape.rows * shape.length
    return read * (1 + shape.length / _ATTENTION_PARITY) + limits.compilation


def _together(
    members: list[int], lengths: Sequence[int], limits: Limits, row_length: int
) -> Group | None:
    """Sequences, by length, in shared rows; None if they cannot be."""
    if not members or row_length % limits.length_step or row_length < lengths[members[-1]]:
        return None
    packed = pack([lengths[index] for index in members], row_length)
    shape = Shape(limits.rows(len(packed), row_length), row_length, shared=True)
    return Group(shape, [[members[index] for index in row] for row in packed])


def _apart(members: list[int], lengths: Sequence[int], limits: Limits) -> list[Group]:
    """Sequences, by length, in rows of their own; cut into groups where that pays."""
    if not members:
        return []
    spread = lengths[members[-1]] - lengths[members[0]]
    step = limits.length_step * (1 + spread // (limits.length_step * _MOST_SIZES))
    padded = [-(-lengths[index] // step) * step for index in members]
    cuts = [0, *(np.flatnonzero(np.diff(padded)) + 1).tolist(), len(members)]

    def shape(start: int, end: int) -> Shape:
        length = padded[end - 1]
        return Shape(limits.even_rows(end - start, length), length, shared=False)

    # The cheapest way to read the first so many: what it costs, and where its last group starts.
    best: dict[int, tuple[float, int]] = {0: (0.0, 0)}
    for number, end in enumerate(cuts[1:], start=1):
        best[end] = min(
            (best[start][0] + _cost(end - start, shape(start, end), limits), start)
            for start in cuts[:number]
        )
    groups: list[Group] = []
    end = len(members)
    while end:
        start = best[end][1]
        groups.append(Group(shape(start, end), [[index] for index in members[start:end]]))
        end = start
    return groups[::-1]
