"""Small teacher caches for tests, made from dense distributions by definition."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from sentidistill_jax.data.teacher_cache import (
    CacheManifest,
    CacheRecord,
    CacheWriter,
    LabelTargets,
    SparseTargets,
    record_key,
)

VOCAB = 1000
TEMPERATURES = (1.0, 2.0)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def exact_targets(
    logits: np.ndarray, kept: Sequence[np.ndarray], temperatures: Sequence[float]
) -> SparseTargets:
    """Targets with the given ids kept at each row of logits [n, vocab]."""
    logprobs = log_softmax(logits)
    tails = np.empty((len(logits), len(temperatures)), np.float32)
    for column, temperature in enumerate(temperatures):
        probs = np.exp(log_softmax(logits / temperature))
        for row, ids in enumerate(kept):
            with np.errstate(divide="ignore"):  # log(0): everything is kept
                tails[row, column] = np.log(np.delete(probs[row], ids).sum())
    return SparseTargets(
        counts=np.array([len(ids) for ids in kept], np.int32),
        ids=np.concatenate(kept).astype(np.int32),
        logprobs=np.concatenate([row[ids] for row, ids in zip(logprobs, kept, strict=True)]).astype(
            np.float32
        ),
        tail_logprobs=tails,
    )


def random_targets(
    rng: np.random.Generator,
    positions: int,
    *,
    vocab: int = VOCAB,
    max_entries: int = 8,
    spread: float = 3.0,
    temperatures: Sequence[float] = TEMPERATURES,
) -> SparseTargets:
    """Normal logits; at each position a random number of the likeliest and one token more."""
    logits = rng.normal(0, spread, (positions, vocab))
    order = np.argsort(-logits, axis=1)
    kept = []
    for row in range(positions):
        count = rng.integers(1, max_entries, endpoint=True)
        kept.append(np.union1d(order[row, :count], rng.integers(vocab)))
    return exact_targets(logits, kept, temperatures)


def make_manifest(**changes: Any) -> CacheManifest:
    fields: dict[str, Any] = {
        "teacher_fingerprint": "teacher",
        "tokenizer_fingerprint": "tokenizer",
        "chat_template_fingerprint": "chat template",
        "corpus_fingerprint": "corpus",
        "vocab_size": VOCAB,
        "top_k": 8,
        "mode": "top_k",
        "temperatures": TEMPERATURES,
        "codec": "fast",
        "num_prompts": 10,
        "records_per_shard": 4,
        "config": {"sampling": {"temperature": 0.7}},
    }
    return CacheManifest(**{**fields, **changes})


def make_record(index: int, manifest: CacheManifest) -> CacheRecord:
    """The record of an index, always the same."""
    rng = np.random.default_rng(index)
    prompt, completion = int(rng.integers(0, 6)), int(rng.integers(1, 8))
    tokens = rng.integers(0, manifest.vocab_size, prompt + completion, dtype=np.int32)
    labels = None
    if index % 3 == 0:
        raw = log_softmax(rng.normal(size=3)).astype(np.float32)
        ids = rng.choice(manifest.vocab_size, 3, replace=False).astype(np.int32)
        labels = LabelTargets(completion - 1, ids, raw - 2, raw)
    return CacheRecord(
        key=record_key(manifest.teacher_fingerprint, tokens, tokens),
        prompt_id=f"prompt-{index}",
        kind=("polarity", "emotion", "rewriting ↔")[index % 3],
        tokens=tokens,
        completion_start=prompt,
        targets=random_targets(
            rng, completion, vocab=manifest.vocab_size, temperatures=manifest.temperatures
        ),
        labels=labels,
    )


def make_records(manifest: CacheManifest) -> list[CacheRecord]:
    return [make_record(index, manifest) for index in range(manifest.num_prompts)]


def write_cache(directory: pathlib.Path, manifest: CacheManifest) -> list[CacheRecord]:
    """Writes a whole cache; returns its records."""
    records = make_records(manifest)
    writer = CacheWriter(directory, manifest)
    for shard in writer.missing_shards():
        writer.write_shard(shard, records[slice(*writer.shard_range(shard))])
    writer.finish()
    return records


def files_of(directory: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def assert_same_targets(got: SparseTargets, expected: SparseTargets) -> None:
    """Equal up to the order of entries within a position."""
    expected = expected.sorted_by_id()
    np.testing.assert_array_equal(got.counts, expected.counts)
    np.testing.assert_array_equal(got.ids, expected.ids)
    np.testing.assert_array_equal(got.logprobs, expected.logprobs)
    np.testing.assert_array_equal(got.tail_logprobs, expected.tail_logprobs)


def assert_same_record(got: CacheRecord, expected: CacheRecord) -> None:
    """Equal in everything, targets bit for bit."""
    assert (got.key, got.prompt_id, got.kind) == (expected.key, expected.prompt_id, expected.kind)
    assert got.completion_start == expected.completion_start
    np.testing.assert_array_equal(got.tokens, expected.tokens)
    assert_same_targets(got.targets, expected.targets)
    assert (got.labels is None) == (expected.labels is None)
    if got.labels is not None and expected.labels is not None:
        assert got.labels.position == expected.labels.position
        np.testing.assert_array_equal(got.labels.ids, expected.labels.ids)
        np.testing.assert_array_equal(got.labels.raw_logprobs, expected.labels.raw_logprobs)
        np.testing.assert_array_equal(got.labels.logprobs, expected.labels.logprobs)
