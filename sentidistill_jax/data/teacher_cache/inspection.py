"""Looking into a cache: is every byte as it was written, and what does it hold."""

import dataclasses
import itertools
import json
import math
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from sentidistill_jax.data.teacher_cache.manifest import CacheError, CacheManifest, sha256_of
from sentidistill_jax.data.teacher_cache.reader import open_cache
from sentidistill_jax.data.teacher_cache.records import CacheRecord, SparseTargets

_BAR_WIDTH = 40
_EDGES = (-math.inf, -6, -5, -4, -3, -2.5, -2, -1.5, -1, -0.5, 0)  # log10 of the tail mass


@dataclasses.dataclass(frozen=True)
class VerifyReport:
    """What `verify` found."""

    num_shards: int
    num_records: int
    num_tokens: int
    num_completion_tokens: int
    num_bytes: int
    num_repeated_keys: int  # records whose key an earlier record has: the corpus repeats itself
    problems: tuple[str, ...]  # empty for a sound cache

    def __str__(self) -> str:
        lines = [
            f"{self.num_shards} shards, {self.num_records} records, {self.num_tokens} tokens "
            f"({self.num_completion_tokens} of completions), {self.num_bytes} bytes, "
            f"{self.num_repeated_keys} repeated keys",
            *self.problems,
            f"{len(self.problems)} problems" if self.problems else "every checksum and key fits",
        ]
        return "\n".join(lines)


def verify(directory: str | os.PathLike[str]) -> VerifyReport:
    """Reads a whole cache: every file's checksum, every record's checksum, key and lengths.

    Raises:
      FileNotFoundError: If the directory holds no cache at all.
      CacheMismatchError: If the cache is unfinished, or a shard is missing or has another size.
      CacheError: If the manifest is damaged.
    """
    directory = pathlib.Path(directory)
    reader = open_cache(directory)
    manifest = reader.manifest
    problems = []
    for shard, entry in enumerate(manifest.shards):
        if sha256_of(directory / entry.name) != entry.sha256:
            problems.append(f"{entry.name}: its SHA-256 is not the one in the manifest")
        for index in reader.shard_records(shard):
            try:
                record = reader[index]
            except CacheError as error:
                problems.append(str(error))
                continue
            got = len(record.tokens), len(record.targets.counts), record.kind
            expected = (
                int(reader.lengths[index]),
                int(reader.completion_lengths[index]),
                reader.kinds[reader.kind_ids[index]],
            )
            if got != expected:
                problems.append(f"{entry.name}, record {index}: {got}, the log says {expected}")
    return VerifyReport(
        num_shards=len(manifest.shards),
        num_records=len(reader),
        num_tokens=int(reader.lengths.sum()),
        num_completion_tokens=int(reader.completion_lengths.sum()),
        num_bytes=sum(entry.num_bytes for entry in manifest.shards),
        num_repeated_keys=len(reader) - len(np.unique(reader.keys, axis=0)),
        problems=tuple(problems),
    )


@dataclasses.dataclass(frozen=True)
class CacheStatistics:
    """What `inspect` measured on a sample of the records."""

    manifest: CacheManifest
    num_sampled: int  # records read
    tokens_by_kind: dict[str, int]  # completion tokens, of the whole cache
    file_bytes_per_token: float  # shard files, per completion token of the whole cache
    target_bytes_per_token: float  # encoded targets only, per completion token
    mean_entries: float  # per completion token
    max_entries: int
    mean_entropy_nats: float  # over the kept entries and the tail; a lower bound of the teacher's
    tail_mass_counts: np.ndarray  # int64 [bins], completion tokens by tail mass at temperature 1
    examples: tuple[CacheRecord, ...]  # the first records of the sample

    def __str__(self) -> str:
        fields = self.manifest.plan()
        lines = [f"{name}: {value}" for name, value in fields.items()]
        lines += [
            "",
            f"read {self.num_sampled} of {self.manifest.num_records} records",
            f"bytes per completion token: {self.target_bytes_per_token:.1f} of targets, "
            f"{self.file_bytes_per_token:.1f} with prompts and file overhead",
            f"entries per completion token: {self.mean_entries:.1f}, at most {self.max_entries}",
            f"entropy: {self.mean_entropy_nats:.3f} nats per completion token",
            "",
            "completion tokens by kind",
            *_bars(list(self.tokens_by_kind), list(self.tokens_by_kind.values())),
            "",
            "completion tokens by tail mass at temperature 1",
            *_bars(
                [f"below 10^{_EDGES[1]:g}"]
                + [f"10^{low:g} to 10^{high:g}" for low, high in itertools.pairwise(_EDGES[1:])],
                self.tail_mass_counts.tolist(),
            ),
        ]
        return "\n".join(lines)


def inspect(
    directory: str | os.PathLike[str], *, max_records: int = 1000, num_examples: int = 3
) -> CacheStatistics:
    """Measures a cache on evenly spaced records.

    Args:
      directory: Of a finished cache.
      max_records: Records to read at most.
      num_examples: Records to return decoded.

    Raises:
      CacheError: As `open_cache`, and if a record that is read is damaged.
    """
    reader = open_cache(directory)
    sample = np.unique(np.linspace(0, len(reader) - 1, max_records).astype(int))
    records = reader.__getitems__(sample.tolist())
    num_positions = int(reader.completion_lengths[sample].sum())
    tails = np.concatenate([record.targets.tail_logprobs[:, 0] for record in records])
    # -inf, the tail of a set that holds everything, belongs to the first bin.
    tail_mass_counts, _ = np.histogram(np.maximum(tails / math.log(10), -1e9), (-1e9, *_EDGES[1:]))
    total = int(reader.completion_lengths.sum())
    file_bytes = sum(entry.num_bytes for entry in reader.manifest.shards)
    return CacheStatistics(
        manifest=reader.manifest,
        num_sampled=len(records),
        tokens_by_kind={
            kind: int(reader.completion_lengths[reader.kind_ids == kind_id].sum())
            for kind_id, kind in enumerate(reader.kinds)
        },
        file_bytes_per_token=file_bytes / total,
        target_bytes_per_token=sum(reader.targets_bytes(int(i)) for i in sample) / num_positions,
        mean_entries=sum(len(record.targets.ids) for record in records) / num_positions,
        max_entries=reader.max_entries,
        mean_entropy_nats=sum(_entropy(record.targets) for record in records) / num_positions,
        tail_mass_counts=tail_mass_counts,
        examples=tuple(records[:num_examples]),
    )


def describe(
    record: CacheRecord,
    decode: Callable[[Sequence[int]], str] | None = None,
    *,
    max_positions: int = 8,
    max_entries: int = 4,
) -> str:
    """One record as a table: what was said at each position, and what was likely there.

    Args:
      record: Of any cache.
      decode: Token ids to text; ids are shown as they are without it.
      max_positions: Of the completion.
      max_entries: The likeliest that are shown at a position.
    """

    def text(ids: Sequence[int]) -> str:
        return json.dumps(decode(ids), ensure_ascii=False) if decode else str(list(ids))

    targets, start = record.targets, record.completion_start
    lines = [
        f"{record.prompt_id} ({record.kind}): {start} prompt tokens, "
        f"{len(targets.counts)} of completion",
        f"  prompt      {_shortened(text(record.tokens[:start].tolist()))}",
        f"  completion  {_shortened(text(record.tokens[start:].tolist()))}",
    ]
    if record.labels is not None:
        names = [text([label]) for label in record.labels.ids.tolist()]
        masses = np.exp(record.labels.logprobs)
        shares = ", ".join(f"{name} {m:.3f}" for name, m in zip(names, masses, strict=True))
        lines.append(f"  labels at {record.labels.position}  {shares}")
    ends = np.cumsum(targets.counts)[:max_positions]
    for position, end in enumerate(ends):
        here = slice(end - targets.counts[position], end)
        ids, logprobs = targets.ids[here], targets.logprobs[here]
        likeliest = np.argsort(-logprobs, kind="stable")[:max_entries]
        entries = ", ".join(
            f"{text([int(ids[entry])])} {np.exp(logprobs[entry]):.3f}" for entry in likeliest
        )
        token = text([int(record.tokens[start + position])])
        tail = np.exp(targets.tail_logprobs[position, 0])
        lines.append(f"  {position:3} {token:16} of {len(ids):3}: {entries}; tail {tail:.1e}")
    return "\n".join(lines)


def _shortened(text: str, length: int = 160) -> str:
    """The end of a text, where a prompt asks its question."""
    return text if len(text) <= length else f"...{text[-length:]}"


def _entropy(targets: SparseTargets) -> float:
    """Sum over the positions, in nats, with the tail as one outcome."""
    logprobs = np.concatenate([targets.logprobs, targets.tail_logprobs[:, 0]]).astype(np.float64)
    logprobs = logprobs[logprobs > -np.inf]
    return float(-(np.exp(logprobs) * logprobs).sum())


def _bars(names: list[str], values: list[int]) -> list[str]:
    width, largest = max(map(len, names)), max(values)
    return [
        f"  {name:{width}}  {value:>10}  {'█' * round(_BAR_WIDTH * value / max(largest, 1))}"
        for name, value in zip(names, values, strict=True)
    ]
