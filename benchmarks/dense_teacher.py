"""What a cache keeps, from a teacher whose whole distribution is at hand; tests use it too."""

import functools
from collections.abc import Sequence

import numpy as np


def reduce_dense(
    logprobs: np.ndarray,
    *,
    candidates: int,
    temperatures: Sequence[float],
    forced_ids: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arguments `ids, logprobs, tail_logprobs` of the selections from dense rows, exactly.

    Args:
      logprobs: At temperature 1, [n, vocab].
      candidates: Likeliest tokens to take.
      temperatures: Of the tail's columns.
      forced_ids: Left out of the tail too, int32 [n, forced]; -1 is padding.
    """
    logsumexp = functools.partial(np.logaddexp.reduce, axis=1)
    dense = logprobs.astype(np.float64)
    ids = np.argsort(-dense, axis=1, kind="stable")[:, :candidates]
    rest = dense.copy()
    np.put_along_axis(rest, ids, -np.inf, axis=1)
    if forced_ids is not None:
        rows, columns = np.nonzero(forced_ids >= 0)
        rest[rows, forced_ids[rows, columns]] = -np.inf
    tails = [logsumexp(rest / t) - logsumexp(dense / t) for t in temperatures]
    top = np.take_along_axis(dense, ids, axis=1)
    return ids.astype(np.int32), top.astype(np.float32), np.stack(tails, 1).astype(np.float32)
