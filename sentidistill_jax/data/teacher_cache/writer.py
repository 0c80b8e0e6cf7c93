"""Writes a cache shard by shard: a process killed anywhere loses at most the shard at hand."""

import dataclasses
import errno
import os
import pathlib
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures

import numpy as np
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from sentidistill_jax.data.teacher_cache.codec import Codec, encode_record, make_codec
from sentidistill_jax.data.teacher_cache.manifest import (
    MANIFEST_NAME,
    CacheError,
    CacheManifest,
    CacheMismatchError,
    RecordSummary,
    ShardEntry,
    ShardLog,
    differences,
    log_path,
    read_log,
    seal,
    sha256_of,
    sync,
    unseal,
)
from sentidistill_jax.data.teacher_cache.records import KEY_BYTES, CacheRecord

_TEMPORARY = ".writing-"
# Uncompressed: payloads are coded already, and bytes must depend on no library version.
_ARRAY_RECORD_OPTIONS = "group_size:1,uncompressed"
_MASS_ERROR = 1e-3  # float32 sums over a vocabulary stay well below


class CacheWriter:
    """Writes the shards of one cache; any process may write any shard, in any order.

    A shard is for a fixed range of prompts and holds the records of those that have one, so its
    bytes depend on neither how many processes there are nor which of them wrote it. Each process
    may open the same directory.
    """

    def __init__(self, directory: str | os.PathLike[str], manifest: CacheManifest):
        """Opens a directory for a new cache or to continue an unfinished one.

        Args:
          directory: Created if absent; on a file system that all writing processes share.
          manifest: What the cache is made from, without shards.

        Raises:
          CacheMismatchError: If the directory holds a shard of another manifest.
        """
        self.directory = pathlib.Path(directory)
        self.manifest = manifest
        self._plan = manifest.plan()
        self._codec = make_codec(manifest)
        self.directory.mkdir(parents=True, exist_ok=True)
        for file in sorted(self.directory.glob(log_path(pathlib.Path("shard-*")).name)):
            self._refuse_other_plan(file)

    def shard_range(self, shard: int) -> tuple[int, int]:
        """Index of the first prompt that a shard is for, and the one after its last."""
        return self.manifest.shard_range(shard)

    def missing_shards(self) -> list[int]:
        """Shards that are absent, unfinished or damaged; reads every finished one once.

        Raises:
          CacheMismatchError: If the directory holds a shard of another manifest.
        """
        return [shard for shard, log in enumerate(self._finished_logs()) if log is None]

    def begin_shard(self, shard: int) -> "ShardBuilder":
        """A shard to which records are added as they come, in any order."""
        return ShardBuilder(self, shard, self._codec)

    def write_shard(self, shard: int, records: Sequence[CacheRecord]) -> None:
        """Writes and logs a shard, replacing it if it is there.

        Args:
          shard: Index of the shard.
          records: Its records, in order of their index.

        Raises:
          ValueError: If the records do not fit the manifest or the shard's range.
        """
        start, stop = self.shard_range(shard)
        if len(records) != stop - start:
            raise ValueError(
                f"shard {shard} got {len(records)} records, expected {stop - start} "
                f"(indices {start} to {stop - 1})."
            )
        builder = self.begin_shard(shard)
        for index, record in enumerate(records):
            builder.add(index, record)
        builder.finish()

    def counts(self) -> dict[str, dict[str, int]]:
        """Prompts of the shards that are there, by kind: `kept`, and those that are not by reason.

        Raises:
          FileNotFoundError: If a shard is missing.
          CacheError: If the log of one is damaged.
        """
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for shard in range(self.manifest.num_shards):
            log = read_log(self.directory / self.manifest.shard_name(shard))
            for kind_id in log.kind_ids:
                counts[log.kinds[kind_id]]["kept"] += 1
            for kind, reasons in log.rejected.items():
                counts[kind].update(reasons)
        return {kind: dict(counts[kind]) for kind in sorted(counts)}

    def finish(self) -> CacheManifest:
        """Writes the manifest; called by one process, after all have written their shards.

        Raises:
          CacheError: If shards are missing, or there is no record in any.
        """
        logs = self._finished_logs()
        missing = [shard for shard, log in enumerate(logs) if log is None]
        if missing:
            raise CacheError(
                f"{self.directory} misses shards {missing} of {len(logs)}; write them first."
            )
        entries = tuple(self._entry(log) for log in logs if log is not None)
        manifest = dataclasses.replace(self.manifest, shards=entries)
        if not manifest.num_records:
            raise CacheError(f"{self.directory} holds no record; capture answers worth keeping.")
        self.put(self.directory / MANIFEST_NAME, seal(manifest.to_dict()))
        for leftover in self.directory.glob(f"{_TEMPORARY}*"):  # of killed processes
            leftover.unlink()
        return manifest

    def _entry(self, log: ShardLog) -> ShardEntry:
        file = self.directory / self.manifest.shard_name(log.shard)
        return ShardEntry(
            name=file.name,
            num_bytes=log.num_bytes,
            sha256=log.sha256,
            log_sha256=sha256_of(log_path(file)),
            num_records=len(log.lengths),
            rejected=log.rejected,
        )

    def _finished_logs(self) -> list[ShardLog | None]:
        with futures.ThreadPoolExecutor() as pool:  # hashing releases the interpreter lock
            return list(pool.map(self._finished_log, range(self.manifest.num_shards)))

    def _finished_log(self, shard: int) -> ShardLog | None:
        file = self.directory / self.manifest.shard_name(shard)
        try:
            log = read_log(file)
        except (FileNotFoundError, CacheError):
            return None
        return log if log.shard == shard and log.sha256 == sha256_of(file) else None

    def _refuse_other_plan(self, log_file: pathlib.Path) -> None:
        try:
            plan = unseal(log_file.read_bytes(), log_file.name)["plan"]
        except CacheError:
            return  # the shard counts as missing
        problems = differences(plan, self._plan)
        if problems:
            raise CacheMismatchError(
                self.directory, [f"{log_file.name} is of another cache", *problems]
            )

    def put(self, path: pathlib.Path, content: bytes | Callable[[pathlib.Path], None]) -> None:
        """Makes a file appear whole or not at all, and lasting once it has appeared."""
        temporary = self.directory / f"{_TEMPORARY}{path.name}-{uuid.uuid4().hex}"
        if isinstance(content, bytes):
            temporary.write_bytes(content)
        else:
            content(temporary)
        sync(temporary)
        temporary.rename(path)
        sync(self.directory)


class ShardBuilder:
    """Encodes the records of one shard as they come; nothing is on disk before `finish`."""

    def __init__(self, writer: CacheWriter, shard: int, codec: Codec):
        self.manifest = writer.manifest
        self._writer = writer
        self._shard = shard
        self._codec = codec
        self._start, stop = writer.shard_range(shard)
        self._encoded: list[bytes | None] = [None] * (stop - self._start)
        self._summaries: list[RecordSummary | None] = [None] * (stop - self._start)
        self._rejected: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, index: int, record: CacheRecord) -> None:
        """Checks and encodes a record.

        Args:
          index: Of its prompt, within the shard.
          record: The record.

        Raises:
          ValueError: If the record does not fit the manifest.
        """
        _check(record, self._start + index, self.manifest)
        self._encoded[index] = encode_record(record, self._codec)
        self._summaries[index] = RecordSummary.of(record)

    def reject(self, kind: str, reason: str) -> None:
        """Counts a prompt of the shard, of some perspective or task, that has no record."""
        self._rejected[kind][reason] += 1

    def finish(self) -> None:
        """Writes the shard and its log, replacing them if they are there.

        Raises:
          ValueError: If a prompt has neither a record nor a reason for having none.
        """
        encoded = [data for data in self._encoded if data is not None]
        summaries = [summary for summary in self._summaries if summary is not None]
        rejected = sum(reasons.total() for reasons in self._rejected.values())
        if len(encoded) + rejected != len(self._encoded):
            raise ValueError(
                f"shard {self._shard} got {len(encoded)} records and {rejected}"
                f" rejected prompts, expected {len(self._encoded)} in all; add or reject each once."
            )

        def write(path: pathlib.Path) -> None:
            try:
                writer = array_record_module.ArrayRecordWriter(str(path), _ARRAY_RECORD_OPTIONS)
                for data in encoded:
                    writer.write(data)
                writer.close()
            except RuntimeError as error:  # what the system said, in words alone
                raise OSError(errno.EIO, " ".join(str(error).split()), str(path)) from error

        file = self._writer.directory / self.manifest.shard_name(self._shard)
        self._writer.put(file, write)
        log = ShardLog.of(self.manifest.plan(), self._shard, file, summaries, self._rejected)
        self._writer.put(log_path(file), log.to_bytes())


def _check(record: CacheRecord, index: int, manifest: CacheManifest) -> None:
    """Refuses a record that a reader could not give back as it was meant."""
    targets, labels = record.targets, record.labels
    num_positions = len(record.tokens) - record.completion_start
    entries = int(targets.counts.sum())
    tail_shape = (num_positions, len(manifest.temperatures))
    shapes = {
        f"a key of {KEY_BYTES} bytes": len(record.key) == KEY_BYTES,
        "a completion": 0 < num_positions <= len(record.tokens),
        "one row of targets for each completion token": targets.counts.shape == (num_positions,),
        f"tail_logprobs of shape {tail_shape}": targets.tail_logprobs.shape == tail_shape,
        "at least one entry at each position": bool((targets.counts > 0).all()),
        "as many ids and logprobs as counted": len(targets.ids) == len(targets.logprobs) == entries,
        "labels of one length and an answer position in the completion": labels is None
        or 0 < len(labels.ids) == len(labels.raw_logprobs) == len(labels.logprobs)
        and 0 <= labels.position < num_positions,
    }
    _require_all(shapes, record, index)

    rows = np.repeat(np.arange(num_positions), targets.counts)
    ids = [record.tokens, targets.ids, *([] if labels is None else [labels.ids])]
    tail = targets.tail_logprobs.astype(np.float64)
    mass = np.bincount(rows, np.exp(targets.logprobs, dtype=np.float64)) + np.exp(tail[:, 0])
    values = {
        f"ids from 0 to {manifest.vocab_size - 1}": all(
            ((part >= 0) & (part < manifest.vocab_size)).all() for part in ids
        ),
        "distinct ids at each position": len(np.unique(rows << 32 | targets.ids)) == entries,
        "finite logprobs": bool(np.isfinite(targets.logprobs).all()),
        "tail_logprobs below 0": bool((tail < 0).all()),
        "entries and tail of mass 1 at temperature 1": bool((abs(mass - 1) < _MASS_ERROR).all()),
    }
    if manifest.num_draws is not None:
        draws = np.exp(targets.logprobs, dtype=np.float64) * manifest.num_draws
        whole = bool((abs(draws - np.rint(draws)) < 1e-2).all())
        values[f"logprobs of whole counts of {manifest.num_draws} draws"] = whole
    _require_all(values, record, index)


def _require_all(faults: Mapping[str, bool], record: CacheRecord, index: int) -> None:
    wrong = [expected for expected, holds in faults.items() if not holds]
    if wrong:
        raise ValueError(
            f"record {index} (prompt {record.prompt_id}) must have {', '.join(wrong)}; "
            "check what captured it."
        )
