"""One record to bytes and back, under its own checksum."""

import struct
import zlib
from typing import NamedTuple

import numpy as np

from sentidistill_jax.data.teacher_cache.codec import Codec
from sentidistill_jax.data.teacher_cache.manifest import CacheError
from sentidistill_jax.data.teacher_cache.records import KEY_BYTES, CacheRecord, LabelTargets

_CHECKSUM = struct.Struct("<I")  # CRC-32 of all that follows it
_HEADER = struct.Struct(f"<{KEY_BYTES}s7I")


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
    """Serialises a record; docs/data_formats.md has the layout."""
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


def decode_record(data: bytes, header: Header, codec: Codec) -> CacheRecord:
    """Inverse of `encode_record`, after `read_header` of the same bytes."""
    rest = memoryview(data)[_CHECKSUM.size + _HEADER.size :]
    labels = None
    if header.num_labels:
        words = np.frombuffer(rest, "<i4", 3 * header.num_labels).reshape(3, -1)
        floats = words.view("<f4")
        labels = LabelTargets(header.label_position, words[0], floats[1], floats[2])
        rest = rest[words.nbytes :]
    kind_start = len(rest) - header.kind_bytes
    prompt_id_start = kind_start - header.prompt_id_bytes
    num_positions = header.num_tokens - header.completion_start
    return CacheRecord(
        key=header.key,
        prompt_id=str(rest[prompt_id_start:kind_start], "utf-8"),
        kind=str(rest[kind_start:], "utf-8"),
        tokens=codec.decode_tokens(rest[header.targets_bytes : prompt_id_start], header.num_tokens),
        completion_start=header.completion_start,
        targets=codec.decode_targets(rest[: header.targets_bytes], num_positions),
        labels=labels,
    )
