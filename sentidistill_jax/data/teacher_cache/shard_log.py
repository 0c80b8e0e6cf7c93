"""The log of a finished shard: its checksum, and what a reader needs without decoding a record."""

import base64
import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sentidistill_jax.data.teacher_cache.manifest import CacheError, seal, unseal
from sentidistill_jax.data.teacher_cache.records import KEY_BYTES, CacheRecord


class RecordSummary(NamedTuple):
    """What a log says about a record."""

    key: bytes
    kind: str
    length: int  # tokens
    completion_length: int
    max_entries: int  # most entries at a position

    @classmethod
    def of(cls, record: CacheRecord) -> "RecordSummary":
        """Summarises a record that the writer has checked."""
        counts = record.targets.counts
        return cls(record.key, record.kind, len(record.tokens), len(counts), int(counts.max()))


@dataclasses.dataclass(frozen=True)
class ShardLog:
    """Written beside a shard once its file is in place; a shard without it does not exist."""

    plan: Mapping[str, Any]  # CacheManifest.plan() of the cache that the shard belongs to
    shard: int
    num_bytes: int  # size of the shard file
    sha256: str  # of the shard file
    max_entries: int  # most entries at a position
    kinds: tuple[str, ...]  # sorted
    kind_ids: np.ndarray  # int32 [records], into kinds
    lengths: np.ndarray  # int32 [records], tokens
    completion_lengths: np.ndarray  # int32 [records]
    keys: np.ndarray  # uint8 [records, KEY_BYTES]
    rejected: Mapping[str, int]  # reason -> prompts of the shard whose answers were not kept

    @classmethod
    def of(
        cls,
        plan: Mapping[str, Any],
        shard: int,
        file: pathlib.Path,
        records: Sequence[RecordSummary],
        rejected: Mapping[str, int],
    ) -> "ShardLog":
        """Describes the shard that `file` holds."""
        kinds = tuple(sorted({record.kind for record in records}))
        return cls(
            plan=plan,
            shard=shard,
            num_bytes=file.stat().st_size,
            sha256=sha256_of(file),
            max_entries=max((record.max_entries for record in records), default=0),
            kinds=kinds,
            kind_ids=np.array([kinds.index(record.kind) for record in records], np.int32),
            lengths=np.array([record.length for record in records], np.int32),
            completion_lengths=np.array([r.completion_length for r in records], np.int32),
            keys=np.frombuffer(b"".join(r.key for r in records), np.uint8).reshape(-1, KEY_BYTES),
            rejected=dict(rejected),
        )

    def to_bytes(self) -> bytes:
        """The log file's content."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("kind_ids", "lengths", "completion_lengths"):
            values[name] = base64.b64encode(values[name].astype("<i4").tobytes()).decode()
        values["keys"] = base64.b64encode(self.keys.tobytes()).decode()
        return seal(values)

    @classmethod
    def from_bytes(cls, data: bytes, name: object) -> "ShardLog":
        """Inverse of `to_bytes`; raises CacheError if the log file `name` is damaged."""
        values = unseal(data, name)
        for field in ("kind_ids", "lengths", "completion_lengths"):
            values[field] = np.frombuffer(base64.b64decode(values[field]), "<i4")
        keys = np.frombuffer(base64.b64decode(values["keys"]), np.uint8)
        return cls(
            **{**values, "kinds": tuple(values["kinds"]), "keys": keys.reshape(-1, KEY_BYTES)}
        )


def log_path(shard_file: pathlib.Path) -> pathlib.Path:
    """Where the log of a shard file lies."""
    return shard_file.with_name(shard_file.name + ".json")


def read_log(shard_file: pathlib.Path) -> ShardLog:
    """Reads the log of a shard and checks that the shard file is there in full size.

    Raises:
      FileNotFoundError: If the shard was never finished.
      CacheError: If the log is damaged or the shard file has another size.
    """
    log = ShardLog.from_bytes(log_path(shard_file).read_bytes(), log_path(shard_file).name)
    num_bytes = shard_file.stat().st_size
    if num_bytes != log.num_bytes:
        raise CacheError(
            f"{shard_file.name} has {num_bytes} bytes, expected {log.num_bytes}; "
            "run the capture again to redo it."
        )
    return log


def sha256_of(file: pathlib.Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: pathlib.Path) -> None:
    """Waits until a file's content, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
