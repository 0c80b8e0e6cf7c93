"""A record to bytes and back, under its own checksum."""

import itertools
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sentidistill_jax.data.teacher_cache.codec import Codec
from sentidistill_jax.data.teacher_cache.manifest import CacheError
from sentidistill_jax.data.teacher_cache.records import KEY_BYTES, CacheRecord, LabelTargets

_CHECKSUM = struct.Struct("<I")  # CRC-32 of all that follows it
_HEADER = struct.Struct(f"<{KEY_BYTES}s7I")
_TOGETHER = 1024  # positions decoded at a time: of many short records, and within the CPU's caches


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
