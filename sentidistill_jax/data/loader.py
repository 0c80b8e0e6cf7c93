"""From teacher caches to sharded batches: plan the rows, read them in parallel, place them.

The only state is the step: batch `s` is the same on any number of processes, which take their
share of its rows. Grain reads ahead in threads.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain.python as grain
import jax
import numpy as np
from jax.sharding import Mesh

from sentidistill_jax import sharding
from sentidistill_jax.data.batch import Batch
from sentidistill_jax.data.packing import pack_epoch
from sentidistill_jax.data.teacher_cache import CacheReader, CacheRecord
from sentidistill_jax.data.vocabulary_map import to_student

MAX_LABELS = 8  # label words of a task; more is an error while the row is built


@dataclasses.dataclass(frozen=True)
class BatchShape:
    """Static sizes of a batch over all processes."""

    global_batch_size: int  # rows
    seq_length: int  # tokens of a row
    scored_length: int  # completion positions of a row


class PackedBatches:
    """Random access to the batches of a run, as NumPy arrays; one process's rows of each.

    Sequences that do not fit into a row are left out; `num_too_long` counts them.

    Args:
      readers: Caches whose records make up one epoch together.
      shape: Sizes of a batch.
      epochs: Passes over the data; the last batch of the run may hold empty rows.
      seed: Of the shuffle.
      temperatures: At which the objective wants the tail mass.
      cache_weights: Factor of the loss of each reader's tokens; 1 for all by default.
      kind_weights: Further factor, per kind; 1 for those not named.
      calibrate_answers: Move the teacher's mass on the label words of an answer to where the
        calibrated targets put it, so that token and label objectives agree.
      new_ids: The student's id of each of the caches' tokens, if it has only some of them.
      process_index: Of this process.
      process_count: Of all.
    """

    def __init__(
        self,
        readers: Sequence[CacheReader],
        shape: BatchShape,
        *,
        epochs: int,
        seed: int,
        temperatures: Sequence[float] = (1.0,),
        cache_weights: Sequence[float] | None = None,
        kind_weights: Mapping[str, float] | None = None,
        calibrate_answers: bool = True,
        new_ids: np.ndarray | None = None,
        process_index: int = 0,
        process_count: int = 1,
    ):
        if shape.global_batch_size % process_count:
            raise ValueError(
                f"global_batch_size={shape.global_batch_size} must be a multiple of the"
                f" {process_count} processes."
            )
        modes = {reader.manifest.mode for reader in readers}
        self.sampled = "sampled" in modes  # entries are draws, there is no tail
        if self.sampled and len(modes) > 1:
            raise ValueError(
                f"caches of modes {sorted(modes)} got together; expected none of mode 'sampled', or"
                " that mode alone, since the loss reads draws in another way."
            )
        if self.sampled and new_ids is not None:
            raise ValueError(
                "caches of mode 'sampled' cannot teach a student with a trimmed vocabulary: they"
                " have no tail that could take the draws of dropped tokens; set"
                " student.vocabulary='full', or make the cache with another cache.mode."
            )
        self._readers = tuple(readers)
        self._shape = shape
        self._calibrate_answers = calibrate_answers
        self._new_ids = new_ids
        self._local = slice(process_index, None, process_count)
        self._tail_columns = [
            [reader.manifest.temperature_index(temperature) for temperature in temperatures]
            for reader in readers
        ]
        self._temperatures = len(temperatures)
        self.kinds = tuple(sorted({kind for reader in readers for kind in reader.kinds}))
        self._kind_weights = dict(kind_weights or {})
        unknown = sorted(set(self._kind_weights) - set(self.kinds))
        if unknown:
            raise ValueError(
                f"data.kind_weights names {unknown}, which no cache holds; expected some of"
                f" {list(self.kinds)}."
            )
        self._cache_weights = [1.0] * len(readers) if cache_weights is None else cache_weights
        self._starts = np.cumsum([0, *(len(reader) for reader in readers)])
        self._entries = max(reader.max_entries for reader in readers)
        if self.sampled and calibrate_answers:
            self._entries += MAX_LABELS  # label words that were not drawn
        lengths = np.concatenate([reader.lengths for reader in readers])
        scored = np.concatenate([reader.completion_lengths for reader in readers])
        fits = np.flatnonzero((lengths <= shape.seq_length) & (scored <= shape.scored_length))
        self.num_sequences = len(fits)
        self.num_too_long = len(lengths) - len(fits)
        if not len(fits):
            raise ValueError(
                f"none of the {len(lengths)} sequences fits into seq_length={shape.seq_length} and"
                f" scored_length={shape.scored_length}: the shortest has {lengths.min()} tokens,"
                f" the fewest scored are {scored.min()}; raise both."
            )
        self._rows = [
            fits[row]
            for epoch in range(epochs)
            for row in pack_epoch(
                lengths[fits],
                scored[fits],
                seq_length=shape.seq_length,
                scored_length=shape.scored_length,
                seed=seed,
                epoch=epoch,
            )
        ]

    def __len__(self) -> int:
        return -(-len(self._rows) // self._shape.global_batch_size)

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        """This process's rows of batch `step`, [local batch, ...] for every field of `Batch`."""
        size = self._shape.global_batch_size
        rows = self._rows[step * size : (step + 1) * size]
        rows = rows + [np.zeros((0,), np.int64)] * (size - len(rows))
        rows = rows[self._local]
        records = self._records(np.concatenate(rows))
        bounds = [0, *np.cumsum([len(indices) for indices in rows]).tolist()]
        local = [self._row(records[start:end]) for start, end in itertools.pairwise(bounds)]
        return {name: np.stack([row[name] for row in local]) for name in local[0]}

    def _records(self, indices: np.ndarray) -> list[tuple[int, CacheRecord]]:
        """Records of the epoch in the order asked for, each with its cache; read in one go."""
        sources = np.searchsorted(self._starts, indices, side="right") - 1
        within = indices - self._starts[sources]
        records = [
            iter(reader.__getitems__(within[sources == source].tolist()))
            for source, reader in enumerate(self._readers)
        ]
        return [(source, next(records[source])) for source in sources.tolist()]

    def _row(self, records: Sequence[tuple[int, CacheRecord]]) -> dict[str, np.ndarray]:
        seq, scored = self._shape.seq_length, self._shape.scored_length
        row = {
            "tokens": np.zeros((seq,), np.int32),
            "positions": np.zeros((seq,), np.int32),
            "segment_ids": np.zeros((seq,), np.int32),
            "scored": np.zeros((scored,), np.int32),
            "targets": np.zeros((scored,), np.int32),
            "loss_mask": np.zeros((scored,), np.float32),
            "loss_weights": np.zeros((scored,), np.float32),
            "kind_ids": np.zeros((scored,), np.int32),
            "top_k_ids": np.zeros((scored, self._entries), np.int32),
            "top_k_logprobs": np.full((scored, self._entries), -np.inf, np.float32),
            "tail_logprobs": np.zeros((scored, self._temperatures), np.float32),
            "label_ids": np.full((scored, MAX_LABELS), -1, np.int32),
            "label_logprobs": np.full((scored, MAX_LABELS), -np.inf, np.float32),
        }
        at, scored_at = 0, 0
        for segment, (source, record) in enumerate(records, start=1):
            if self._new_ids is not None:
                temperatures = self._readers[source].manifest.temperatures
                record = to_student(record, self._new_ids, temperatures)
            length, start = len(record.tokens), record.completion_start
            completion = length - start
            here, there = slice(at, at + length), slice(scored_at, scored_at + completion)
            row["tokens"][here] = record.tokens
            row["positions"][here] = np.arange(length)
            row["segment_ids"][here] = segment
            row["scored"][there] = np.arange(at + start - 1, at + length - 1)
            row["targets"][there] = record.tokens[start:]
            row["loss_mask"][there] = 1.0
            row["loss_weights"][there] = self._cache_weights[source] * self._kind_weights.get(
                record.kind, 1.0
            )
            row["kind_ids"][there] = self.kinds.index(record.kind)
            ids, logprobs = record.targets.pad(self._entries)
            if self._calibrate_answers and self.sampled:
                ids, logprobs = calibrated_draws(record, ids, logprobs)
            elif self._calibrate_answers:
                logprobs = calibrated_answer(record, ids, logprobs)
            row["top_k_ids"][there] = ids
            row["top_k_logprobs"][there] = logprobs
            row["tail_logprobs"][there] = record.targets.tail_logprobs[
                :, self._tail_columns[source]
            ]
            if record.labels is not None:
                answer, labels = scored_at + record.labels.position, len(record.labels.ids)
                if labels > MAX_LABELS:
                    raise ValueError(
                        f"prompt {record.prompt_id} has {labels} label words, at most {MAX_LABELS}"
                        " fit; give its task fewer or raise MAX_LABELS in data/loader.py."
                    )
                row["label_ids"][answer, :labels] = record.labels.ids
                row["label_logprobs"][answer, :labels] = record.labels.logprobs
            at, scored_at = at + length, scored_at + completion
        return row


def calibrated_answer(record: CacheRecord, ids: np.ndarray, logprobs: np.ndarray) -> np.ndarray:
    """The record's distributions with the answer's mass moved among the label words.

    All label words together keep the mass the teacher gave them, so the row stays normalized.
    """
    if record.labels is None:
        return logprobs
    labels = record.labels
    mass = np.logaddexp.reduce(labels.raw_logprobs)
    moved = logprobs.copy()
    for label_id, logprob in zip(labels.ids, labels.logprobs, strict=True):
        entry = np.flatnonzero(
            (ids[labels.position] == label_id) & (logprobs[labels.position] > -np.inf)
        )
        moved[labels.position, entry] = mass + logprob
    return moved


def calibrated_draws(
    record: CacheRecord, ids: np.ndarray, logprobs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The record's draws with those of label words spread over all of these as calibrated.

    The share of draws that fell on label words estimates their mass without bias, so what comes out
    estimates the calibrated distribution without bias, and with less variance.
    """
    if record.labels is None:
        return ids, logprobs
    labels, row = record.labels, record.labels.position
    drawn = logprobs[row] > -np.inf
    of_labels = drawn & np.isin(ids[row], labels.ids)
    if not of_labels.any():
        return ids, logprobs
    others = drawn & ~of_labels
    mass = np.logaddexp.reduce(logprobs[row, of_labels])
    new_ids = np.concatenate([ids[row, others], labels.ids])
    ids, logprobs = ids.copy(), logprobs.copy()
    moved = np.concatenate([logprobs[row, others], mass + labels.logprobs])
    ids[row], logprobs[row] = 0, -np.inf
    ids[row, : len(new_ids)], logprobs[row, : len(new_ids)] = new_ids, moved
    return ids, logprobs


def iterate(batches: PackedBatches, mesh: Mesh, *, start_step: int) -> Iterator[Batch]:
    """Yields the batches from `start_step` on, placed on the mesh, reading ahead in threads."""
    dataset: Any = grain.MapDataset.source(batches)[start_step:]  # type: ignore[arg-type]
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    placement = sharding.batch_sharding(mesh)
    for arrays in dataset.to_iter_dataset(options):
        yield Batch(
            **{
                name: jax.make_array_from_process_local_data(placement, array)
                for name, array in arrays.items()
            }
        )
