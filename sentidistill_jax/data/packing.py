"""Which sequences share a row: a pure function of their lengths, the seed and the epoch.

The plan is made from lengths alone, so any process computes the same one without reading records,
and a position in the data is one number: the index of a global row.
"""

import numpy as np

_OPEN_ROWS = 64  # rows still being filled; more find tighter fits, at linear cost


def pack_epoch(
    lengths: np.ndarray,
    scored_lengths: np.ndarray,
    *,
    seq_length: int,
    scored_length: int,
    seed: int,
    epoch: int,
) -> list[np.ndarray]:
    """Shuffles the sequences and packs them into rows, first fit in order of the shuffle.

    Args:
      lengths: Tokens of each sequence, int [sequences].
      scored_lengths: Scored positions of each, int [sequences].
      seq_length: Tokens that a row holds.
      scored_length: Scored positions that a row holds.
      seed: Of the run.
      epoch: Pass over the data; each is shuffled anew.

    Returns:
      For each row the indices of its sequences, in order; every sequence is in exactly one row.

    Raises:
      ValueError: If a sequence does not fit into a row by itself.
    """
    for name, sizes, budget in (
        ("seq_length", lengths, seq_length),
        ("scored_length", scored_lengths, scored_length),
    ):
        if len(sizes) and sizes.max() > budget:
            raise ValueError(
                f"{name}={budget} is too small: sequence {int(sizes.argmax())} needs"
                f" {int(sizes.max())}; set {name} to at least that."
            )
    order = np.random.default_rng((seed, epoch)).permutation(len(lengths))
    rows: list[list[int]] = []
    first_open = 0  # rows before it are closed
    free = np.zeros((0, 2), np.int64)  # of the open rows: tokens, scored positions
    for index in order:
        need = np.array([lengths[index], scored_lengths[index]])
        fits = np.flatnonzero((free >= need).all(axis=1))
        if fits.size:
            slot = int(fits[0])
        else:
            if len(free) == _OPEN_ROWS:
                free, first_open = free[1:], first_open + 1
            rows.append([])
            free = np.concatenate([free, [[seq_length, scored_length]]])
            slot = len(free) - 1
        rows[first_open + slot].append(int(index))
        free[slot] -= need
    return [np.array(row) for row in rows]
