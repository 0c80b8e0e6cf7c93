"""The JSON files of a cache: what it was made from, and for each shard the log of what is in it.

Both are sealed with a checksum; the errors say what is damaged, or not what a consumer expects.
"""

import base64
import dataclasses
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sentidistill_jax import __version__
from sentidistill_jax.data.teacher_cache.records import KEY_BYTES, CacheRecord

SCHEMA_VERSION = 4
MANIFEST_NAME = "manifest.json"
MODES = ("top_k", "top_p", "sampled")
TEXT_MODE = "text"  # a teacher that gave its text alone: no choice, but what is found
CODECS = ("fast", "small")
MAX_VOCAB_SIZE = 2**18


class CacheError(ValueError):
    """A cache file is damaged; the message names the shard and, where known, the record."""


class CacheMismatchError(CacheError):
    """A cache is not the one that was expected; `problems` lists every difference found."""

    def __init__(self, directory: object, problems: Sequence[str]):
        self.problems = tuple(problems)
        super().__init__(f"teacher cache {directory} does not fit: " + "; ".join(problems) + ".")


@dataclasses.dataclass(frozen=True)
class ShardEntry:
    """A finished shard as the manifest lists it."""

    name: str  # file name
    num_bytes: int  # size of the shard file
    sha256: str  # of the shard file
    log_sha256: str  # of the shard's log, which holds its keys and lengths
    num_records: int
    rejected: Mapping[str, Mapping[str, int]]  # kind -> reason -> prompts without a record


@dataclasses.dataclass(frozen=True)
class CacheManifest:
    """Everything that decides the bytes of a cache; `shards` is filled in when it is finished."""

    teacher_fingerprint: str  # content hash of the teacher's weights
    tokenizer_fingerprint: str
    chat_template_fingerprint: str
    corpus_fingerprint: str
    vocab_size: int
    top_k: int  # most entries chosen by rank; the generated token and label words come on top
    mode: str  # one of MODES, or TEXT_MODE
    temperatures: tuple[float, ...]  # of the tail columns; the first is 1
    codec: str  # one of CODECS
    num_prompts: int  # asked of the teacher; of each there is one record, or a reason for none
    records_per_shard: int  # at most: a shard is for so many prompts
    config: Mapping[str, Any]  # the capture's full config
    top_p: float | None = None  # mode top_p: the mass a set must cover
    num_draws: int | None = None  # mode sampled: draws per position
    schema_version: int = SCHEMA_VERSION
    package_version: str = __version__
    shards: tuple[ShardEntry, ...] = ()

    def __post_init__(self):
        """Checks every field that the format depends on."""
        modes = (*MODES, TEXT_MODE)
        _require(self.mode in modes, "mode", self.mode, f"one of {modes}")
        _require(self.codec in CODECS, "codec", self.codec, f"one of {CODECS}")
        _require(
            2 <= self.vocab_size <= MAX_VOCAB_SIZE,
            "vocab_size",
            self.vocab_size,
            f"2 to {MAX_VOCAB_SIZE}",
        )
        _require(1 <= self.top_k <= self.vocab_size, "top_k", self.top_k, "1 to vocab_size")
        _require(self.num_prompts >= 1, "num_prompts", self.num_prompts, "at least 1")
        _require(
            self.records_per_shard >= 1, "records_per_shard", self.records_per_shard, "at least 1"
        )
        _require(
            self.temperatures[:1] == (1.0,) and all(t > 0 for t in self.temperatures),
            "temperatures",
            self.temperatures,
            "1.0 first (its tail closes the kept logprobs), then any positive ones",
        )
        _require(
            (self.top_p is not None and 0 < self.top_p <= 1) == (self.mode == "top_p"),
            "top_p",
            self.top_p,
            "a mass in (0, 1] in mode top_p, None in the others",
        )
        _require(
            (self.num_draws is not None and self.num_draws >= 1) == (self.mode == "sampled"),
            "num_draws",
            self.num_draws,
            "a positive number in mode sampled, None in the others",
        )
        _require(
            self.mode != "sampled" or self.temperatures == (1.0,),
            "temperatures",
            self.temperatures,
            "(1.0,) in mode sampled, whose draws are taken at temperature 1",
        )

    @property
    def num_shards(self) -> int:
        """Number of shard files."""
        return math.ceil(self.num_prompts / self.records_per_shard)

    @property
    def num_records(self) -> int:
        """Number of records in the finished shards."""
        return sum(entry.num_records for entry in self.shards)

    def shard_name(self, shard: int) -> str:
        """File name of a shard."""
        return f"shard-{shard:05d}-of-{self.num_shards:05d}"

    def shard_range(self, shard: int) -> tuple[int, int]:
        """Index of the first prompt that a shard is for, and the one after its last."""
        start = shard * self.records_per_shard
        return start, min(start + self.records_per_shard, self.num_prompts)

    def temperature_index(self, temperature: float) -> int:
        """Column of `tail_logprobs` that belongs to a temperature.

        Raises:
          CacheMismatchError: If the tail was not captured at it; it cannot be recovered.
        """
        if temperature not in self.temperatures:
            raise CacheMismatchError(
                "manifest", [f"temperature: got one of {self.temperatures}, expected {temperature}"]
            )
        return self.temperatures.index(temperature)

    def to_dict(self) -> dict[str, Any]:
        """The manifest as plain JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def plan(self) -> dict[str, Any]:
        """The manifest as plain JSON values without its shards: what every shard is written for."""
        return {name: value for name, value in self.to_dict().items() if name != "shards"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CacheManifest":
        """Inverse of `to_dict`."""
        return cls(
            **{
                **values,
                "temperatures": tuple(values["temperatures"]),
                "shards": tuple(ShardEntry(**entry) for entry in values["shards"]),
            }
        )


def differences(got: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Says what is not as expected, field by field; `got` may have further fields.

    A dot in a name of `expected` leads into a field: "config.teacher.source".
    """
    plain = json.loads(json.dumps(dict(expected)))  # tuples compare as lists, as in JSON
    found = []
    for name, value in plain.items():
        other = _field(got, name)
        if isinstance(value, dict) and isinstance(other, dict):
            keys = sorted(value.keys() | other.keys())
            every = {f"{name}.{key}": value.get(key) for key in keys}
            found += differences(got, every)
        elif other != value:
            found.append(f"{name}: got {other!r}, expected {value!r}")
    return found


def _field(values: Any, name: str) -> Any:
    for part in name.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def seal(values: Mapping[str, Any]) -> bytes:
    """Serializes JSON values together with their checksum; equal values give equal bytes."""
    text = json.dumps(values, sort_keys=True, allow_nan=False)
    sealed = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "values": values}
    return (json.dumps(sealed, sort_keys=True, allow_nan=False, indent=1) + "\n").encode()


def unseal(data: bytes, name: object) -> dict[str, Any]:
    """Inverse of `seal`.

    Raises:
      CacheError: If a byte of the file `name` was changed or lost.
    """
    try:
        values = json.loads(data)["values"]
    except (ValueError, KeyError, TypeError) as error:
        raise CacheError(f"{name} is damaged; run the capture again to write it anew.") from error
    if seal(values) != data:
        raise CacheError(
            f"{name} does not fit its checksum; run the capture again to write it anew."
        )
    return values


def _require(condition: bool, field: str, got: object, expected: str) -> None:
    if not condition:
        raise ValueError(f"cache manifest {field}={got!r} must be {expected}.")


class RecordSummary(NamedTuple):
    """What a log says about a record."""

    key: bytes
    kind: str
    length: int  # tokens
    completion_length: int
    max_entries: int  # most entries at a position

    @classmethod
    def of(cls, record: CacheRecord) -> "RecordSummary":
        """Summarizes a record that the writer has checked."""
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
    rejected: Mapping[str, Mapping[str, int]]  # kind -> reason -> prompts without a record

    @classmethod
    def of(
        cls,
        plan: Mapping[str, Any],
        shard: int,
        file: pathlib.Path,
        records: Sequence[RecordSummary],
        rejected: Mapping[str, Mapping[str, int]],
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
            rejected={kind: dict(rejected[kind]) for kind in sorted(rejected)},
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
