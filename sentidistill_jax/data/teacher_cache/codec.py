"""Records to bytes and back, under a checksum of their own, by the codec that a manifest names."""

import itertools
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from sentidistill_jax.data.teacher_cache.manifest import CacheError, CacheManifest
from sentidistill_jax.data.teacher_cache.records import (
    KEY_BYTES,
    CacheRecord,
    LabelTargets,
    SparseTargets,
)
from sentidistill_jax.data.teacher_cache.small import DrawCounts, RootLevels, SmallCodec

_CHECKSUM = struct.Struct("<I")  # CRC-32 of all that follows it
_HEADER = struct.Struct(f"<{KEY_BYTES}s7I")
_TOGETHER = 1024  # positions decoded at a time: of many short records, and within the CPU's caches


class Codec(Protocol):
    """Arrays to bytes and back; ids are lossless in every codec."""

    def encode_tokens(self, tokens: np.ndarray) -> bytes:
        """Packs token ids, int32 [seq]."""
        ...

    def decode_tokens(
        self, parts: Sequence[memoryview], num_tokens: Sequence[int]
    ) -> list[np.ndarray]:
        """Unpacks the token ids of several records, which fill `parts`."""
        ...

    def encode_targets(self, targets: SparseTargets) -> bytes:
        """Packs targets whose entries are sorted by id."""
        ...

    def decode_targets(
        self, parts: Sequence[memoryview], num_positions: Sequence[int]
    ) -> list[SparseTargets]:
        """Unpacks the targets of several records, which fill `parts`."""
        ...


def make_codec(manifest: CacheManifest) -> Codec:
    """The codec that reads and writes the records of a cache, under its name in configs."""
    if manifest.codec == "fast":
        return FastCodec(len(manifest.temperatures))
    if manifest.num_draws is not None:
        return SmallCodec(DrawCounts(manifest.num_draws), manifest.vocab_size)
    return SmallCodec(RootLevels(manifest.temperatures), manifest.vocab_size)


class FastCodec:
    """The `fast` codec: plain little-endian arrays, bit exact, at 8 bytes an entry.

    Decoded arrays are read-only views of the bytes.
    """

    def __init__(self, num_temperatures: int):
        self._num_temperatures = num_temperatures

    def encode_tokens(self, tokens: np.ndarray) -> bytes:
        """Packs token ids, int32 [seq]."""
        return tokens.astype("<i4").tobytes()

    def decode_tokens(
        self, parts: Sequence[memoryview], num_tokens: Sequence[int]
    ) -> list[np.ndarray]:
        """Unpacks the token ids of several records."""
        return [np.frombuffer(p, "<i4", n) for p, n in zip(parts, num_tokens, strict=True)]

    def encode_targets(self, targets: SparseTargets) -> bytes:
        """Packs targets whose entries are sorted by id."""
        return b"".join(
            [
                targets.counts.astype("<i4").tobytes(),
                targets.tail_logprobs.astype("<f4").tobytes(),
                targets.ids.astype("<i4").tobytes(),
                targets.logprobs.astype("<f4").tobytes(),
            ]
        )

    def decode_targets(
        self, parts: Sequence[memoryview], num_positions: Sequence[int]
    ) -> list[SparseTargets]:
        """Unpacks the targets of several records."""
        return list(map(self._decode_targets, parts, num_positions))

    def _decode_targets(self, data: memoryview, num_positions: int) -> SparseTargets:
        counts, data = _take(data, "<i4", num_positions)
        tails, data = _take(data, "<f4", num_positions * self._num_temperatures)
        num_entries = len(data) // 8
        ids, data = _take(data, "<i4", num_entries)
        logprobs, _ = _take(data, "<f4", num_entries)
        return SparseTargets(counts, ids, logprobs, tails.reshape(num_positions, -1))


def _take(data: memoryview, dtype: str, count: int) -> tuple[np.ndarray, memoryview]:
    array = np.frombuffer(data, dtype, count)
    return array, data[array.nbytes :]


class Header(NamedTuple):
    """The fixed part of a record."""

    key: bytes
    num_tokens: int
    completion_start: int
    num_labels: int  # 0 without an answer position
    label_position: int
    targets_bytes: int
    prompt_id_bytes: int
    kind_bytes: int


def encode_record(record: CacheRecord, codec: Codec) -> bytes:
    """Serializes a record; docs/data_formats.md has the layout."""
    labels = record.labels
    targets = codec.encode_targets(record.targets.sorted_by_id())
    prompt_id, kind = record.prompt_id.encode(), record.kind.encode()
    header = Header(
        key=record.key,
        num_tokens=len(record.tokens),
        completion_start=record.completion_start,
        num_labels=0 if labels is None else len(labels.ids),
        label_position=0 if labels is None else labels.position,
        targets_bytes=len(targets),
        prompt_id_bytes=len(prompt_id),
        kind_bytes=len(kind),
    )
    parts = [_HEADER.pack(*header)]
    if labels is not None:
        parts.append(labels.ids.astype("<i4").tobytes())
        parts.append(labels.raw_logprobs.astype("<f4").tobytes())
        parts.append(labels.logprobs.astype("<f4").tobytes())
    parts += [targets, codec.encode_tokens(record.tokens), prompt_id, kind]
    payload = b"".join(parts)
    return _CHECKSUM.pack(zlib.crc32(payload)) + payload


def read_header(data: bytes) -> Header:
    """The fixed part of a record, after checking the whole of it.

    Raises:
      CacheError: If the checksum does not fit the bytes.
    """
    payload = memoryview(data)[_CHECKSUM.size :]
    if len(payload) < _HEADER.size or _CHECKSUM.unpack_from(data)[0] != zlib.crc32(payload):
        raise CacheError("its checksum does not fit its bytes")
    return Header(*_HEADER.unpack_from(payload))


def decode_records(
    encoded: Sequence[bytes], headers: Sequence[Header], codec: Codec
) -> list[CacheRecord]:
    """Inverse of `encode_record` for several records, after `read_header` of the same bytes."""
    positions = np.cumsum([header.num_tokens - header.completion_start for header in headers])
    starts = np.flatnonzero(np.diff(positions // _TOGETHER, prepend=-1)).tolist()
    groups = [slice(*ends) for ends in itertools.pairwise([*starts, len(headers)])]
    return [one for some in groups for one in _decode(encoded[some], headers[some], codec)]


def _decode(encoded: Sequence[bytes], headers: Sequence[Header], codec: Codec) -> list[CacheRecord]:
    labels, targets, tokens, names = [], [], [], []
    for data, header in zip(encoded, headers, strict=True):
        rest = memoryview(data)[_CHECKSUM.size + _HEADER.size :]
        labels.append(_labels(rest, header))
        start = 12 * header.num_labels
        kind_start = len(rest) - header.kind_bytes
        prompt_id_start = kind_start - header.prompt_id_bytes
        targets.append(rest[start : start + header.targets_bytes])
        tokens.append(rest[start + header.targets_bytes : prompt_id_start])
        names.append(
            (str(rest[prompt_id_start:kind_start], "utf-8"), str(rest[kind_start:], "utf-8"))
        )
    completions = [header.num_tokens - header.completion_start for header in headers]
    return [
        CacheRecord(header.key, name[0], name[1], token_ids, header.completion_start, sparse, label)
        for header, name, token_ids, sparse, label in zip(
            headers,
            names,
            codec.decode_tokens(tokens, [header.num_tokens for header in headers]),
            codec.decode_targets(targets, completions),
            labels,
            strict=True,
        )
    ]


def _labels(data: memoryview, header: Header) -> LabelTargets | None:
    """What is known of the label words at the answer position, if there is one."""
    if not header.num_labels:
        return None
    words = np.frombuffer(data, "<i4", 3 * header.num_labels).reshape(3, -1)
    floats = words.view("<f4")
    return LabelTargets(header.label_position, words[0], floats[1], floats[2])
