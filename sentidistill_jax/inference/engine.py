"""Batched inference on token ids: score given continuations, or generate new ones.

Both read a shared prompt beginning once and keep its keys and values for all rows. Shapes come
in a few buckets, so the number of compilations is bounded.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import Mesh

from sentidistill_jax import sharding
from sentidistill_jax.inference.distribution import SparseDistribution, sparse_distribution
from sentidistill_jax.inference.sampling import SamplingConfig, sample
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.kv_cache import KVCache

_HEAD_CHUNK = 128  # positions whose logits exist at one time, times the ways the batch is split
_LENGTH_STEP = 16  # suffix lengths are rounded up to powers of two times 1 or 1.5 of this
_PREFIX_STEP = 32  # shared prefixes are cut to a multiple of this
_ROW_LENGTH = 128  # tokens of a row that scored requests are packed into, unless one is longer


@dataclasses.dataclass(frozen=True)
class ScoreRequest:
    """Asks for the distributions that predict positions `start` .. `start + count - 1`."""

    tokens: np.ndarray  # int32 [seq]; may end before the last predicted position's token
    start: int  # first predicted position; at least 1
    count: int
    chosen: np.ndarray  # int32 [count, chosen]: tokens kept whatever their rank; -1 is padding


@dataclasses.dataclass(frozen=True)
class GenerateRequest:
    """Asks for a continuation."""

    tokens: np.ndarray  # int32 [seq]
    seed: int = 0
    chosen: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0,), np.int32))


@dataclasses.dataclass(frozen=True)
class Generation:
    """A continuation, without the stop token unless the budget ended it."""

    tokens: np.ndarray  # int32 [generated], stop token included when one was produced
    stopped: bool
    distribution: SparseDistribution | None  # [generated, ...] as it was when each was drawn


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
    shortest = min(len(sequence) for sequence in sequences)
    first = sequences[0][:shortest]
    for sequence in sequences[1:]:
        differs = np.flatnonzero(first != sequence[: len(first)])
        if differs.size:
            first = first[: differs[0]]
    return len(first)


def _pack(lengths: Sequence[int], row_length: int) -> list[list[int]]:
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


class Engine:
    """Runs one decoder on one mesh.

    Args:
      decoder: The model; its parameters stay where they are.
      mesh: The mesh its parameters live on.
      pad_id: Token id that fills rows up to their bucket; never attended to.
      tokens_per_batch: Bound on rows x padded length of a batch.
    """

    def __init__(self, decoder: Decoder, mesh: Mesh, *, pad_id: int, tokens_per_batch: int = 2048):
        self._graphdef, state = nnx.split(decoder)
        # Nothing is trained here, so the parameters are cast once and not in every call.
        self._state = jax.tree.map(lambda leaf: leaf.astype(decoder.dtype), state)
        self.config = decoder.config
        self._dtype = decoder.dtype
        self._mesh = mesh
        self._pad_id = pad_id
        self._tokens_per_batch = tokens_per_batch
        self._rows_multiple = sharding.batch_rows(mesh)
        # Bound methods under jit: the module structure is constant, arrays are arguments.
        self._prefix_step = jax.jit(self._read_prefix)
        self._score_step = jax.jit(self._score, static_argnames=("k", "temperatures"))
        self._prefill_step = jax.jit(self._prefill, static_argnames=("slots",))
        self._decode_step = jax.jit(
            self._decode, static_argnames=("sampling", "k", "temperatures"), donate_argnums=(1,)
        )

    # --- device functions -------------------------------------------------------------------

    def _read_prefix(self, state: Any, tokens: jax.Array) -> KVCache:
        model = nnx.merge(self._graphdef, state)
        cache = KVCache.zeros(self.config, 1, tokens.shape[1], self._dtype)
        _, cache = model(tokens, jnp.arange(tokens.shape[1])[None], cache=cache)
        assert cache is not None
        return cache

    def _positions(self, tokens: jax.Array, prefix: KVCache | None) -> jax.Array:
        offset = 0 if prefix is None else prefix.length
        return jnp.broadcast_to(offset + jnp.arange(tokens.shape[1])[None], tokens.shape)

    def _score(
        self,
        state,
        tokens,
        positions,
        segment_ids,
        prefix,
        predict_from,
        chosen,
        *,
        k,
        temperatures,
    ):
        """Distributions [rows, scored, ...] predicted from the hidden states at `predict_from`."""
        model = nnx.merge(self._graphdef, state)
        hidden, _ = model(tokens, positions, segment_ids=segment_ids, prefix=prefix)
        picked = jnp.take_along_axis(hidden, predict_from[:, :, None], axis=1)
        return self._distributions(model, picked, chosen, k=k, temperatures=temperatures)

    def _distributions(self, model, hidden, chosen, *, k, temperatures) -> SparseDistribution:
        """Applies the head a few positions at a time: logits of all would not fit."""

        def of(args):
            rows, ids = args
            return sparse_distribution(model.logits(rows), ids, k=k, temperatures=temperatures)

        leading = hidden.shape[:2]
        flat = hidden.reshape(-1, hidden.shape[-1]), chosen.reshape(-1, chosen.shape[-1])
        out = _chunked(of, flat)
        return jax.tree.map(lambda leaf: leaf.reshape(*leading, *leaf.shape[1:]), out)

    def _prefill(self, state, tokens, lengths, prefix, *, slots: int):
        """Reads prompts; returns the cache and the hidden state at each prompt's last token."""
        model = nnx.merge(self._graphdef, state)
        cache = KVCache.zeros(self.config, tokens.shape[0], slots, self._dtype)
        hidden, cache = model(tokens, self._positions(tokens, prefix), cache=cache, prefix=prefix)
        last = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)[:, 0]
        return cache, last

    def _decode(
        self, state, cache, hidden, lengths, step, seeds, chosen, prefix, *,
        sampling: SamplingConfig, k: int, temperatures: tuple[float, ...],
    ):  # fmt: skip
        """Draws token number `step` of every row, then reads it."""
        model = nnx.merge(self._graphdef, state)
        logits = model.logits(hidden)
        keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), step))(seeds)
        drawn = sample(logits, keys, sampling)
        kept = None
        if k:
            chosen = jnp.concatenate([drawn[:, None], chosen], axis=1)
            kept = sparse_distribution(logits, chosen, k=k, temperatures=temperatures)
        offset = 0 if prefix is None else prefix.length
        positions = (offset + lengths + step)[:, None]
        hidden, cache = model(drawn[:, None], positions, cache=cache, prefix=prefix)
        return cache, hidden[:, 0], drawn, kept

    # --- host functions ---------------------------------------------------------------------

    def _put(self, array: np.ndarray) -> jax.Array:
        return jax.device_put(array, sharding.batch_sharding(self._mesh))

    def prefix(self, tokens: np.ndarray) -> KVCache | None:
        """Reads the beginning that all rows of a call share."""
        length = len(tokens) // _PREFIX_STEP * _PREFIX_STEP
        if not length:
            return None
        with jax.set_mesh(self._mesh):
            return self._prefix_step(self._state, jnp.asarray(tokens[None, :length], jnp.int32))

    def _batches(self, lengths: Sequence[int], extra: int) -> Iterator[tuple[list[int], int, int]]:
        """Indices of the requests in each batch, rows and padded length; one shape for them all."""
        padded = bucket(max(lengths))
        most = max(self._rows_multiple, self._tokens_per_batch // (padded + extra))
        rows = self._rows(len(lengths))
        while rows > most:
            rows //= 2
        order = np.argsort(np.asarray(lengths), kind="stable").tolist()
        for start in range(0, len(order), rows):
            yield order[start : start + rows], rows, padded

    def _rows(self, count: int) -> int:
        """Rows of a batch, rounded up to a power of two to bound compilations."""
        rows = self._rows_multiple
        while rows < count:
            rows *= 2
        return rows

    def _padded(self, sequences: list[np.ndarray], rows: int, length: int) -> np.ndarray:
        tokens = np.full((rows, length), self._pad_id, np.int32)
        for row, sequence in enumerate(sequences):
            tokens[row, : len(sequence)] = sequence
        return tokens

    def score(
        self,
        requests: Sequence[ScoreRequest],
        *,
        k: int,
        temperatures: tuple[float, ...] = (1.0,),
        shared: int | None = None,
    ) -> Iterator[tuple[int, SparseDistribution]]:
        """Yields (index of the request, its distributions [count, ...]) in no given order.

        Args:
          requests: What to score.
          k: Size of the kept top.
          temperatures: At which the tail mass is wanted.
          shared: Tokens that all requests begin with; found by comparison when None.
        """
        if not requests:
            return
        if shared is None:
            shared = common_prefix([request.tokens for request in requests])
        shared = min([shared, *(request.start - 1 for request in requests)])
        prefix = self.prefix(requests[0].tokens[:shared])
        offset = 0 if prefix is None else prefix.length
        lengths = [len(request.tokens) - offset for request in requests]
        row_length = max(_ROW_LENGTH, bucket(max(lengths)))
        rows = _pack(lengths, row_length)
        scored = bucket(max(sum(requests[i].count for i in row) for row in rows))
        width = max(request.chosen.shape[1] for request in requests)
        per_batch = max(1, self._tokens_per_batch // row_length // self._rows_multiple)
        per_batch = min(per_batch * self._rows_multiple, self._rows(len(rows)))
        with jax.set_mesh(self._mesh):
            for start in range(0, len(rows), per_batch):
                batch = rows[start : start + per_batch]
                arrays = self._packed(requests, batch, per_batch, row_length, scored, width, offset)
                tokens, positions, segment_ids, predict_from, chosen = map(self._put, arrays)
                out = jax.device_get(
                    self._score_step(
                        self._state, tokens, positions, segment_ids, prefix, predict_from, chosen,
                        k=k, temperatures=temperatures,
                    )
                )  # fmt: skip
                for row, indices in enumerate(batch):
                    at = 0
                    for index in indices:
                        cut = (row, slice(at, at + requests[index].count))
                        at += requests[index].count
                        yield index, jax.tree.map(lambda leaf, cut=cut: leaf[cut], out)

    def _packed(
        self,
        requests: Sequence[ScoreRequest],
        batch: list[list[int]],
        rows: int,
        row_length: int,
        scored: int,
        width: int,
        offset: int,
    ) -> tuple[np.ndarray, ...]:
        """Tokens, positions, segment ids, predict_from and chosen of some rows of requests."""
        tokens = np.full((rows, row_length), self._pad_id, np.int32)
        positions = np.full((rows, row_length), offset, np.int32)
        segment_ids = np.zeros((rows, row_length), np.int32)
        predict_from = np.zeros((rows, scored), np.int32)
        chosen = np.full((rows, scored, width), -1, np.int32)
        for row, indices in enumerate(batch):
            at, scored_at = 0, 0
            for segment, index in enumerate(indices, start=1):
                request = requests[index]
                own = request.tokens[offset:]
                here = slice(at, at + len(own))
                there = slice(scored_at, scored_at + request.count)
                tokens[row, here] = own
                positions[row, here] = offset + np.arange(len(own))
                segment_ids[row, here] = segment
                first = at + request.start - 1 - offset
                predict_from[row, there] = np.arange(first, first + request.count)
                chosen[row, there, : request.chosen.shape[1]] = request.chosen
                at, scored_at = here.stop, there.stop
        return tokens, positions, segment_ids, predict_from, chosen

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        sampling: SamplingConfig,
        *,
        stop_ids: Sequence[int],
        k: int = 0,
        temperatures: tuple[float, ...] = (1.0,),
    ) -> Iterator[tuple[int, Generation]]:
        """Yields (index of the request, its continuation) in no given order.

        Args:
          requests: Prompts; a row's output depends on its prompt and seed only.
          sampling: How tokens are drawn and how many at most.
          stop_ids: A row ends after producing one of these.
          k: Also return the distribution each token was drawn from, top-k plus the drawn token
              and the request's chosen ones; 0 for none.
          temperatures: At which the tail mass is wanted.
        """
        if not requests:
            return
        shared = common_prefix([request.tokens for request in requests])
        shared = min([shared, *(len(request.tokens) - 1 for request in requests)])
        prefix = self.prefix(requests[0].tokens[:shared])
        offset = 0 if prefix is None else prefix.length
        stops = np.asarray(list(stop_ids), np.int32)
        budget = sampling.max_new_tokens
        with jax.set_mesh(self._mesh):
            for indices, rows, padded in self._batches(
                [len(r.tokens) - offset for r in requests], budget
            ):
                batch = [requests[i] for i in indices]
                tokens = self._padded([r.tokens[offset:] for r in batch], rows, padded)
                lengths = np.ones((rows,), np.int32)
                lengths[: len(batch)] = [len(r.tokens) - offset for r in batch]
                seeds = np.zeros((rows,), np.int32)
                seeds[: len(batch)] = [r.seed for r in batch]
                width = max(len(r.chosen) for r in batch)
                chosen = np.full((rows, width), -1, np.int32)
                for row, request in enumerate(batch):
                    chosen[row, : len(request.chosen)] = request.chosen
                put_lengths, put_seeds = self._put(lengths), self._put(seeds)
                put_chosen = self._put(chosen)
                cache, hidden = self._prefill_step(
                    self._state, self._put(tokens), put_lengths, prefix, slots=padded + budget
                )
                done = np.arange(rows) >= len(batch)
                drawn: list[np.ndarray] = []
                kept: list[Any] = []
                for step in range(budget):
                    cache, hidden, token, distribution = self._decode_step(
                        self._state, cache, hidden, put_lengths, step, put_seeds, put_chosen,
                        prefix, sampling=sampling, k=k, temperatures=temperatures,
                    )  # fmt: skip
                    drawn.append(np.asarray(token))
                    if k:
                        kept.append(jax.device_get(distribution))
                    done |= np.isin(drawn[-1], stops)
                    if done.all():
                        break
                produced = np.stack(drawn, axis=1)
                for row, index in enumerate(indices):
                    hits = np.flatnonzero(np.isin(produced[row], stops))
                    length = int(hits[0]) + 1 if hits.size else produced.shape[1]
                    distribution = None
                    if k:
                        distribution = jax.tree.map(
                            lambda *leaves, row=row: np.stack([leaf[row] for leaf in leaves]),
                            *kept[:length],
                        )
                    yield index, Generation(produced[row, :length], bool(hits.size), distribution)


def _chunked(function, arrays):
    """`function` over chunks of the leading dim, so that its intermediates stay small."""
    total = arrays[0].shape[0]
    if total <= _HEAD_CHUNK:
        return function(arrays)
    chunks = -(-total // _HEAD_CHUNK)
    padding = chunks * _HEAD_CHUNK - total

    def split(array):
        padded = jnp.pad(array, ((0, padding), (0, 0)))
        return padded.reshape(chunks, _HEAD_CHUNK, array.shape[-1])

    out = lax.map(function, jax.tree.map(split, arrays))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:total], out)
