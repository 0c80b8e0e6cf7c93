"""Size, error and speed of the teacher cache's codecs, and the damage that must not go unnoticed.

Sources of distributions, at temperature 1 with the 64 likeliest tokens as candidates:
  zipf      vocabulary 128,256, logits -s log(rank) with noise, s from 0.8 to 2.2, ids at random
  softmax   vocabulary 128,256, normal logits of standard deviation 1.5 to 4
  captured  records of a teacher cache (`--cache`), or the embedded teacher's own answers to
            `--teacher-text` prompts, as they are and cut down to a mass

Modes: the candidates, the smallest set with a mass, the distinct ones of 50 draws. Draws from the
tail of a captured distribution become random ids.

Columns: bytes of encoded targets and entries per completion token; KL(given || decoded) over the
entries and the tail, in nats per position; the largest error of a logprob; completion tokens per
second on one core to encode targets, to decode records, and to read them through a `CacheReader`:
from the file, with every checksum and key compared (best of `--repeats`). Records are decoded as
for a batch of the loader, many in one call; `alone` is reading them one by one. Synthetic positions
share no ids, which is the worst case for `small`. Beside them `poly` is measured: bit-packed ids,
and logprobs as a polynomial of their rank (`polynomial_layout.py`); it has no tail, so the exact
one is lent.
"""

import argparse
import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np
import polynomial_layout
from dense_teacher import reduce_dense
from reporting import Report

from sentidistill_jax.data.teacher_cache import (
    CacheError,
    CacheManifest,
    CacheRecord,
    CacheWriter,
    SparseTargets,
    draw,
    open_cache,
    record_key,
    sampled_targets,
    select_top_p,
    verify,
)
from sentidistill_jax.data.teacher_cache.codec import (
    decode_records,
    encode_record,
    make_codec,
    read_header,
)
from sentidistill_jax.data.teacher_cache.small import closed_kl

VOCAB = 128_256
CANDIDATES = 64
NUM_DRAWS = 50  # about 12 distinct tokens at real positions, as in arXiv:2503.16870
MASSES = (0.95, 0.98, 0.99, 0.995)


def manifest_of(
    targets: SparseTargets, codec: str, vocab_size: int, mode: str, num_records: int
) -> CacheManifest:
    temperatures = (1.0, 2.0, 4.0)[: targets.tail_logprobs.shape[1]]
    return CacheManifest(
        teacher_fingerprint="benchmark",
        tokenizer_fingerprint="benchmark",
        chat_template_fingerprint="benchmark",
        corpus_fingerprint="benchmark",
        vocab_size=vocab_size,
        top_k=CANDIDATES,
        mode="sampled" if mode == "sampled" else "top_k",
        num_draws=NUM_DRAWS if mode == "sampled" else None,
        temperatures=temperatures,
        codec=codec,
        num_prompts=num_records,
        records_per_shard=num_records,
        config={},
    )


def record_of(targets: SparseTargets, index: int, vocab_size: int) -> CacheRecord:
    """A record whose prompt is as long as its completion."""
    rng = np.random.default_rng(index)
    positions = len(targets.counts)
    tokens = rng.integers(0, vocab_size, 2 * positions, dtype=np.int32)
    key = record_key("benchmark", tokens, tokens)
    return CacheRecord(key, f"prompt-{index}", "benchmark", tokens, positions, targets, None)


def concatenate(parts: Sequence[SparseTargets]) -> SparseTargets:
    fields = [field.name for field in dataclasses.fields(SparseTargets)]
    return SparseTargets(**{f: np.concatenate([getattr(p, f) for p in parts]) for f in fields})


def dense_rows(source: str, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Logprobs [rows, VOCAB] of one of the synthetic sources."""
    if source == "zipf":
        exponents = rng.uniform(0.8, 2.2, (rows, 1))
        logits = -exponents * np.log(np.arange(1, VOCAB + 1)) + rng.normal(0, 0.5, (rows, VOCAB))
        logits = rng.permuted(logits, axis=1)
    else:
        logits = rng.normal(0, rng.uniform(1.5, 4, (rows, 1)), (rows, VOCAB))
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def synthetic(source: str, positions: int) -> dict[str, list[SparseTargets]]:
    """One record of `positions` by mode; a few dense rows exist at a time."""
    rng = np.random.default_rng(0)
    parts: dict[str, list[SparseTargets]] = {"top_k": [], "top_p 0.995": [], "sampled": []}
    for _ in range(0, positions, 16):
        rows = dense_rows(source, 16, rng)
        candidates = reduce_dense(rows, candidates=CANDIDATES, temperatures=(1.0,))
        for mode, mass in [("top_k", 1.0), ("top_p 0.995", 0.995)]:
            parts[mode].append(select_top_p(*candidates, temperatures=(1.0,), top_p=mass))
        parts["sampled"].append(sampled_targets(draw(rows, NUM_DRAWS, rng)))
    return {mode: [concatenate(some)] for mode, some in parts.items()}


def resampled(targets: SparseTargets, vocab: int, rng: np.random.Generator) -> SparseTargets:
    """Draws from the entries and the tail; one from the tail becomes a random id."""
    width = int(targets.counts.max())
    ids, logprobs = targets.pad(width)
    outcomes = np.concatenate([logprobs, targets.tail_logprobs[:, :1]], axis=1)
    chosen = draw(outcomes, NUM_DRAWS, rng)
    kept = np.take_along_axis(ids, np.minimum(chosen, width - 1), axis=1)
    return sampled_targets(np.where(chosen < width, kept, rng.integers(0, vocab, chosen.shape)))


def captured(directory: pathlib.Path, max_records: int) -> tuple[dict, int]:
    """Records of a cache by mode, and its vocabulary size."""
    reader = open_cache(directory)
    temperatures = reader.manifest.temperatures
    rng = np.random.default_rng(0)
    modes: dict[str, list[SparseTargets]] = {reader.manifest.mode: []}
    for index in range(min(max_records, len(reader))):
        targets = reader[index].targets
        modes[reader.manifest.mode].append(targets)
        if reader.manifest.mode == "sampled":
            continue
        modes.setdefault("sampled", []).append(resampled(targets, reader.manifest.vocab_size, rng))
        ids, logprobs = targets.pad(reader.max_entries)
        order = np.argsort(-logprobs, axis=1, kind="stable")
        ids, logprobs = (np.take_along_axis(array, order, axis=1) for array in (ids, logprobs))
        for mass in MASSES:
            modes.setdefault(f"top_p {mass}", []).append(
                select_top_p(
                    ids, logprobs, targets.tail_logprobs, temperatures=temperatures, top_p=mass
                )
            )
    return modes, reader.manifest.vocab_size


def best_seconds(function: Callable[[], object], repeats: int) -> float:
    best = float("inf")
    for _ in range(1 + repeats):  # the first warms up; a best of several does not see it
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def measure(
    source: str, mode: str, codec_name: str, records: list[SparseTargets], vocab: int, repeats: int
) -> str:
    """A line of the table."""
    manifest = manifest_of(records[0], codec_name, vocab, mode, len(records))
    codec = make_codec(manifest)
    given = [targets.sorted_by_id() for targets in records]
    made = [record_of(targets, index, vocab) for index, targets in enumerate(given)]
    whole = [encode_record(record, codec) for record in made]
    headers = [read_header(data) for data in whole]
    with tempfile.TemporaryDirectory() as folder:
        writer = CacheWriter(folder, manifest)
        writer.write_shard(0, made)
        writer.finish()
        reader = open_cache(folder)
        seconds = [
            best_seconds(function, repeats)
            for function in (
                lambda: [codec.encode_targets(targets) for targets in given],
                lambda: decode_records(whole, headers, codec),
                lambda: reader.__getitems__(range(len(reader))),
                lambda: [reader[index] for index in range(len(reader))],
            )
        ]
        decoded = [record.targets for record in reader]
    positions = sum(len(targets.counts) for targets in given)
    entries = sum(len(targets.ids) for targets in given)
    assert all((d.ids == g.ids).all() for d, g in zip(decoded, given, strict=True))
    error = max(np.abs(d.logprobs - g.logprobs).max() for d, g in zip(decoded, given, strict=True))
    kl = np.concatenate(
        [
            closed_kl(
                g.logprobs,
                d.logprobs,
                g.tail_logprobs[:, 0],
                d.tail_logprobs[:, 0],
                g.counts,
                1.0,
            )
            for d, g in zip(decoded, given, strict=True)
        ]
    )
    numbers = [
        f"{sum(header.targets_bytes for header in headers) / positions:7.1f}",
        f"{entries / positions:7.1f}",
        f"{kl.mean():8.1e} {np.quantile(kl, 0.99):8.1e} {kl.max():8.1e}",
        f"{error:6.3f}",
        *(f"{positions / s / 1e6:8.3f}" for s in seconds),
    ]
    return f"{source:9} {mode:12} {codec_name:6} " + " ".join(numbers)


def measure_polynomial(source: str, records: list[SparseTargets], vocab: int, repeats: int) -> str:
    """A line of the table for the yardstick, from positions that all have the candidates."""
    targets = concatenate([t for t in records if (t.counts == CANDIDATES).all()])
    ids, logprobs = targets.pad(CANDIDATES)
    order = np.argsort(-logprobs, axis=1, kind="stable")
    ids, logprobs = (np.take_along_axis(array, order, axis=1) for array in (ids, logprobs))
    start = time.perf_counter()
    packed = polynomial_layout.encode(ids, logprobs, vocab)
    encode_seconds = time.perf_counter() - start
    seconds = best_seconds(lambda: polynomial_layout.decode(packed, CANDIDATES, vocab), repeats)
    decoded_ids, decoded = polynomial_layout.decode(packed, CANDIDATES, vocab)
    assert (decoded_ids == ids).all()
    tail = targets.tail_logprobs[:, 0]
    kl = closed_kl(logprobs.ravel(), decoded.ravel(), tail, tail, targets.counts, 1.0)
    numbers = [
        f"{packed.bytes_per_position:7.1f} {CANDIDATES:7.1f}",
        f"{kl.mean():8.1e} {np.quantile(kl, 0.99):8.1e} {kl.max():8.1e}",
        f"{np.abs(decoded - logprobs).max():6.3f}",
        f"{len(ids) / encode_seconds / 1e6:8.3f} {len(ids) / seconds / 1e6:8.3f}",
    ]
    return f"{source:9} {'top_k':12} {'poly':6} " + " ".join(numbers)


def codecs(report: Report, arguments: argparse.Namespace) -> None:
    report.say(
        f"{'source':9} {'mode':12} {'codec':6} {'B/token':>7} {'entries':>7} "
        f"{'KL mean':>8} {'p99':>8} {'max':>8} {'error':>6} "
        f"{'enc M/s':>8} {'dec M/s':>8} {'read':>8} {'alone':>8}"
    )
    sources = {s: (synthetic(s, arguments.positions), VOCAB) for s in ("zipf", "softmax")}
    if arguments.cache:
        sources["captured"] = captured(arguments.cache, arguments.max_records)
    elif arguments.teacher_text:
        import teacher_text  # loads JAX, which nothing else here needs

        with tempfile.TemporaryDirectory() as folder:
            directory = pathlib.Path(folder) / "records"
            teacher_text.capture_teacher_text(directory, arguments.teacher_text)
            sources["captured"] = captured(directory, arguments.max_records)
    for source, (modes, vocab) in sources.items():
        for mode, records in modes.items():
            for codec in ("small", "fast"):
                report.say(measure(source, mode, codec, records, vocab, arguments.repeats))
            if mode == "top_k" and any((t.counts == CANDIDATES).all() for t in records):
                report.say(measure_polynomial(source, records, vocab, arguments.repeats))


def small_cache() -> tuple[CacheManifest, list[CacheRecord]]:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (200, 2000))
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    candidates = reduce_dense(logprobs, candidates=CANDIDATES, temperatures=(1.0,))
    records = []
    for index in range(40):
        rows = [array[5 * index : 5 * index + 5] for array in candidates]
        targets = select_top_p(rows[0], rows[1], rows[2], temperatures=(1.0,), top_p=0.99)
        records.append(record_of(targets, index, 2000))
    return manifest_of(records[0].targets, "small", 2000, "top_p", len(records)), records


def files_of(directory: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def is_sound(directory: pathlib.Path) -> bool:
    try:
        return not verify(directory).problems
    except (CacheError, FileNotFoundError):
        return False


def damage(report: Report, count: int) -> None:
    """Flips a bit, cuts a file and swaps two shards, `count` times each."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder)
        manifest, records = small_cache()
        manifest = dataclasses.replace(manifest, records_per_shard=10)
        writer = CacheWriter(directory, manifest)
        for shard in range(manifest.num_shards):
            writer.write_shard(shard, records[slice(*writer.shard_range(shard))])
        writer.finish()
        files = files_of(directory)
        detected: dict[str, int] = {"flipped": 0, "cut": 0, "swapped": 0}
        for _ in range(count):
            name = str(rng.choice(list(files)))
            data = bytearray(files[name])
            data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
            one, other = (manifest.shard_name(s) for s in rng.choice(4, 2, replace=False))
            for kind, changes in {
                "flipped": {name: bytes(data)},
                "cut": {name: files[name][: rng.integers(len(data))]},
                "swapped": {one: files[other], other: files[one]},
            }.items():
                for changed, content in changes.items():
                    (directory / changed).write_bytes(content)
                detected[kind] += not is_sound(directory)
                for changed in changes:
                    (directory / changed).write_bytes(files[changed])
        assert is_sound(directory)
    for kind, number in detected.items():
        report.say(f"{kind:8} detected {number} of {count}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=pathlib.Path, help="a captured teacher cache to read too")
    parser.add_argument("--teacher-text", type=int, default=0, help="prompts to the teacher")
    parser.add_argument("--max-records", type=int, default=500, help="of a captured cache")
    parser.add_argument("--positions", type=int, default=512, help="of a synthetic record")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--damage", type=int, default=0, help="random damages of each kind")
    parser.add_argument("--report", metavar="NOTE", help="write a dated report with this note")
    arguments = parser.parse_args()
    report = Report("teacher-cache", packages=("numpy", "array_record"))
    codecs(report, arguments)
    if arguments.damage:
        damage(report, arguments.damage)
    if arguments.report is not None:
        print(report.write(arguments.report))


if __name__ == "__main__":
    main()
