"""A second reader, written from docs/data_formats.md alone, finds the same records.

It shares no code with the package and works a bit at a time. If it fails, either the format has
changed, which needs a new schema_version and a new description, or the description is wrong.
"""

import dataclasses
import hashlib
import json
import math
import pathlib
import struct
import zlib
from base64 import b64decode

import numpy as np
import pytest
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]
from cache_records import log_softmax, make_manifest, make_records

from sentidistill_jax.data.teacher_cache import (
    CacheWriter,
    draw,
    open_cache,
    sampled_targets,
)


class Bytes:
    """Takes values off the front."""

    def __init__(self, data: bytes):
        self.data = data

    def take(self, size: int) -> bytes:
        taken, self.data = self.data[:size], self.data[size:]
        assert len(taken) == size
        return taken

    def numbers(self, code: str, count: int) -> list:
        return list(struct.unpack(f"<{count}{code}", self.take(count * struct.calcsize(code))))

    def fields(self, widths: list[int]) -> list[int]:
        data = int.from_bytes(self.take(-(-sum(widths) // 8)), "little")
        values = []
        for width in widths:
            values.append(data % 2**width)
            data >>= width
        assert data == 0
        return values

    def rice(self, lengths: list[int]) -> list[list[int]]:
        unary_bytes, escaped = self.numbers("I", 2)
        lows = self.numbers("B", len(lengths))
        unary = "".join(f"{octet:08b}" for octet in self.take(unary_bytes))
        quotients = [len(zeros) for zeros in unary.split("1")[: sum(lengths)]]
        whole = self.numbers("I", escaped)
        widths = [low for low, length in zip(lows, lengths, strict=True) for _ in range(length)]
        values = [
            whole.pop(0) if quotient == 31 else quotient * 2**width + field
            for quotient, width, field in zip(quotients, widths, self.fields(widths), strict=True)
        ]
        assert not whole and not self.data
        return [[values.pop(0) for _ in range(length)] for length in lengths]


def from_gaps(gaps: list[int], counts: list[int]) -> list[int]:
    ids = []
    for count in counts:
        last = -1
        for _ in range(count):
            last += gaps.pop(0) + 1
            ids.append(last)
    return ids


def read_targets(data: Bytes, n: int, plan: dict) -> tuple[list, list, list, list]:
    t = len(plan["temperatures"])
    if plan["codec"] == "fast":
        counts, tails = data.numbers("i", n), data.numbers("f", n * t)
        return counts, data.numbers("i", sum(counts)), data.numbers("f", sum(counts)), tails
    most, entries, words = data.numbers("I", 3)
    sampled = plan["mode"] == "sampled"
    tails = [-math.inf] * n if sampled else data.numbers("e", n * t)
    lengths = [n, words, entries, *([] if sampled else [n]), entries]
    missing, named, gaps, *steps, levels = data.rice(lengths)
    counts = [most - one for one in missing]
    dictionary = from_gaps(named, [words])
    ids = from_gaps(gaps, counts)
    if words:
        ids = [dictionary[index] for index in ids]
    if sampled:
        return counts, ids, [math.log((d + 1) / plan["num_draws"]) for d in levels], tails
    logprobs = []
    for row, count in enumerate(counts):
        h = 2 ** (-3 - steps[0][row] / 4)
        weights = [(1 + h * levels.pop(0)) ** 4 for _ in range(count)]
        kept = 1 - math.exp(tails[row * t])
        logprobs += [math.log(weight / sum(weights) * kept) for weight in weights]
    return counts, ids, logprobs, tails


def unseal(path: pathlib.Path) -> dict:
    sealed = json.loads(path.read_text())
    text = json.dumps(sealed["values"], sort_keys=True)
    assert sealed["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    return sealed["values"]


@pytest.fixture(params=["fast top_k", "small top_k", "small sampled"])
def directory(request, tmp_path):
    codec, mode = request.param.split()
    manifest = make_manifest(num_prompts=7, records_per_shard=4, codec=codec)
    records = make_records(manifest)
    if mode == "sampled":
        manifest = make_manifest(
            num_prompts=7,
            records_per_shard=4,
            codec=codec,
            mode=mode,
            num_draws=20,
            temperatures=(1.0,),
        )
        rng = np.random.default_rng(0)
        rows = [log_softmax(rng.normal(0, 3, (len(r.targets.counts), 1000))) for r in records]
        records = [
            dataclasses.replace(record, targets=sampled_targets(draw(logprobs, 20, rng)))
            for record, logprobs in zip(records, rows, strict=True)
        ]
    writer = CacheWriter(tmp_path, manifest)
    for shard in range(2):
        writer.write_shard(shard, records[slice(*writer.shard_range(shard))])
    writer.finish()
    return tmp_path


def test_the_description_suffices_to_read_a_cache(directory):
    reader = open_cache(directory)
    manifest = unseal(directory / "manifest.json")
    index = 0
    for shard, entry in enumerate(manifest["shards"]):
        log_bytes = (directory / f"{entry['name']}.json").read_bytes()
        assert entry["log_sha256"] == hashlib.sha256(log_bytes).hexdigest()
        log = unseal(directory / f"{entry['name']}.json")
        plan = log["plan"]
        assert plan == {name: value for name, value in manifest.items() if name != "shards"}
        shard_bytes = (directory / entry["name"]).read_bytes()
        assert log["sha256"] == entry["sha256"] == hashlib.sha256(shard_bytes).hexdigest()
        assert log["num_bytes"] == entry["num_bytes"] == len(shard_bytes)
        assert log["shard"] == shard
        lengths = np.frombuffer(b64decode(log["lengths"]), "<i4")
        completion_lengths = np.frombuffer(b64decode(log["completion_lengths"]), "<i4")
        kind_ids = np.frombuffer(b64decode(log["kind_ids"]), "<i4")
        keys = b64decode(log["keys"])
        records = array_record_module.ArrayRecordReader(str(directory / entry["name"])).read_all()
        for place, raw in enumerate(records):
            data = Bytes(raw)
            assert data.numbers("I", 1) == [zlib.crc32(data.data)]
            key = data.take(16)
            size, start, labels, position, targets_size, id_size, kind_size = data.numbers("I", 7)
            n = size - start
            label_ids, raw_label, label = (data.numbers(code, labels) for code in "iff")
            targets = read_targets(Bytes(data.take(targets_size)), n, plan)
            if plan["codec"] == "fast":
                tokens = data.numbers("i", size)
            else:
                tokens = data.fields([(plan["vocab_size"] - 1).bit_length()] * size)
            prompt_id, kind = data.take(id_size).decode(), data.take(kind_size).decode()
            assert not data.data

            assert key == keys[16 * place : 16 * place + 16]
            assert (size, n) == (lengths[place], completion_lengths[place])
            assert kind == log["kinds"][kind_ids[place]]
            expected = reader[index]
            assert (key, prompt_id, kind, start) == (
                expected.key,
                expected.prompt_id,
                expected.kind,
                expected.completion_start,
            )
            assert tokens == expected.tokens.tolist()
            counts, ids, logprobs, tails = targets
            assert counts == expected.targets.counts.tolist()
            assert ids == expected.targets.ids.tolist()
            np.testing.assert_allclose(logprobs, expected.targets.logprobs, atol=2e-5)
            np.testing.assert_array_equal(tails, expected.targets.tail_logprobs.ravel())
            if expected.labels is None:
                assert labels == 0
            else:
                assert position == expected.labels.position
                assert label_ids == expected.labels.ids.tolist()
                np.testing.assert_array_equal(raw_label, expected.labels.raw_logprobs)
                np.testing.assert_array_equal(label, expected.labels.logprobs)
            index += 1
        assert max(counts) <= log["max_entries"]
    assert index == 7


def test_the_key_is_made_as_described(directory):
    record, teacher = make_records(make_manifest())[0], b"teacher"
    tokens = record.tokens.astype("<i4").tobytes()
    digest = hashlib.blake2b(digest_size=16, person=b"teacher-cache")
    for part in (teacher, tokens, tokens):
        digest.update(struct.pack("<Q", len(part)) + part)
    assert digest.digest() == open_cache(directory)[0].key
