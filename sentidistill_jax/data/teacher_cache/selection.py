"""Which entries of a teacher's distribution a cache keeps, and what that leaves in the tail."""

from collections.abc import Sequence

import numpy as np

from sentidistill_jax.data.teacher_cache.records import SparseTargets


def select_top_k(
    ids: np.ndarray,
    logprobs: np.ndarray,
    tail_logprobs: np.ndarray,
    *,
    temperatures: Sequence[float],
    k: int,
    forced_ids: np.ndarray | None = None,
    forced_logprobs: np.ndarray | None = None,
) -> SparseTargets:
    """Keeps the k likeliest tokens of every position, and the forced ones.

    Args:
      ids: The likeliest tokens, int32 [n, candidates], distinct, by descending logprob.
      logprobs: Theirs at temperature 1 over the full vocabulary, float32 [n, candidates].
      tail_logprobs: Log mass outside candidates and forced tokens, float32 [n, temperatures].
      temperatures: Of the tail's columns.
      k: At most the number of candidates.
      forced_ids: Tokens kept whatever their rank, int32 [n, forced]; -1 is padding.
      forced_logprobs: Theirs, float32 [n, forced].

    Returns:
      Targets whose tail has taken in the candidates that were dropped.
    """
    keep = np.broadcast_to(np.arange(ids.shape[1]) < k, ids.shape)
    return _select(ids, logprobs, tail_logprobs, temperatures, keep, forced_ids, forced_logprobs)


def select_top_p(
    ids: np.ndarray,
    logprobs: np.ndarray,
    tail_logprobs: np.ndarray,
    *,
    temperatures: Sequence[float],
    top_p: float,
    forced_ids: np.ndarray | None = None,
    forced_logprobs: np.ndarray | None = None,
) -> SparseTargets:
    """Keeps the smallest set of the likeliest tokens with mass `top_p`, and the forced ones.

    Where all candidates together have less mass, all are kept. Mass is at temperature 1; the other
    arguments and the result are those of `select_top_k`.
    """
    mass = np.exp(logprobs, dtype=np.float64)
    keep = np.cumsum(mass, axis=1) - mass < top_p  # the mass before it does not suffice yet
    return _select(ids, logprobs, tail_logprobs, temperatures, keep, forced_ids, forced_logprobs)


def sampled_targets(draws: np.ndarray) -> SparseTargets:
    """Targets of random-sampling distillation: the draws' own distribution, without a tail.

    Each position is drawn from the teacher's distribution at temperature 1. So E[count / num_draws]
    is the teacher's probability, and the student's cross-entropy against these targets, which is
    sum(count / num_draws * -log q), is unbiased, and so is its gradient. Drawing from the teacher
    itself makes every importance weight 1, which is why integer counts suffice. No token is forced
    into the set: one that was not drawn has weight 0.

    Args:
      draws: Token ids, integers [n, num_draws].

    Returns:
      Logprobs log(count / num_draws) and a tail of -inf, shape [n, 1].

    Source: random-sampling knowledge distillation, arXiv:2503.16870.
    """
    num_positions, num_draws = draws.shape
    ordered = np.sort(draws, axis=1).astype(np.int32)
    first = np.ones(ordered.shape, np.bool_)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    starts = np.flatnonzero(first)  # runs end with their row, as each row's first draw starts one
    repeats = np.diff(starts, append=draws.size)
    return SparseTargets(
        counts=first.sum(axis=1, dtype=np.int32),
        ids=ordered[first],
        logprobs=np.log(repeats / num_draws).astype(np.float32),
        tail_logprobs=np.full((num_positions, 1), -np.inf, np.float32),
    )


def draw(logprobs: np.ndarray, num_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draws token ids, int32 [n, num_draws], from dense logprobs [n, vocab]."""
    cumulative = np.cumsum(np.exp(logprobs, dtype=np.float64), axis=1)
    uniform = rng.random((len(logprobs), num_draws)) * cumulative[:, -1:]
    rows = [np.searchsorted(c, u, side="right") for c, u in zip(cumulative, uniform, strict=True)]
    return np.stack(rows).astype(np.int32)


def drop_entries(
    targets: SparseTargets, keep: np.ndarray, temperatures: Sequence[float]
) -> SparseTargets:
    """Targets without some of their entries, whose mass goes to the tail at every temperature.

    Args:
      targets: Any.
      keep: Which entries stay, bool [entries].
      temperatures: Of the tail's columns.
    """
    listed = np.arange(int(targets.counts.max(initial=0))) < targets.counts[:, None]
    kept = listed.copy()
    kept[listed] = keep
    _, logprobs = targets.pad(listed.shape[1])
    tails = targets.tail_logprobs.copy()
    changed = (kept != listed).any(axis=1)
    tails[changed] = _grown_tail(logprobs[changed], kept[changed], tails[changed], temperatures)
    return SparseTargets(
        kept.sum(axis=1, dtype=np.int32), targets.ids[keep], targets.logprobs[keep], tails
    )


def _select(
    ids, logprobs, tail_logprobs, temperatures, keep, forced_ids, forced_logprobs
) -> SparseTargets:
    if forced_ids is not None:
        new = forced_ids >= 0
        for column in range(forced_ids.shape[1]):
            seen = np.concatenate([ids, forced_ids[:, :column]], axis=1)
            new[:, column] &= ~(seen == forced_ids[:, column : column + 1]).any(axis=1)
        keep = keep | (ids[:, :, None] == forced_ids[:, None, :]).any(axis=2)
        ids = np.concatenate([ids, forced_ids], axis=1)
        logprobs = np.concatenate([logprobs, np.where(new, forced_logprobs, -np.inf)], axis=1)
        keep = np.concatenate([keep, new], axis=1)
    # An entry without mass says nothing that the tail does not.
    keep = keep & (logprobs > -np.inf)
    logprobs = logprobs.astype(np.float32)
    return SparseTargets(
        counts=keep.sum(axis=1, dtype=np.int32),
        ids=ids[keep].astype(np.int32),
        logprobs=logprobs[keep],
        tail_logprobs=_grown_tail(logprobs, keep, tail_logprobs, temperatures),
    )


def _grown_tail(logprobs, keep, tail_logprobs, temperatures) -> np.ndarray:
    """Adds the mass of the entries that are not kept to the tail, at each temperature."""
    tails = []
    for column, temperature in enumerate(temperatures):
        scaled = logprobs.astype(np.float64) / temperature
        tail = tail_logprobs[:, column].astype(np.float64)
        # Listed entries have mass 1 - exp(tail) at this temperature: that gives the normalizer.
        log_normalizer = _logsumexp(scaled) - np.log(-np.expm1(tail))
        dropped = _logsumexp(np.where(keep, -np.inf, scaled)) - log_normalizer
        tails.append(np.logaddexp(tail, dropped))
    return np.stack(tails, axis=1).astype(np.float32)


def _logsumexp(x: np.ndarray) -> np.ndarray:
    return np.logaddexp.reduce(x, axis=1)
