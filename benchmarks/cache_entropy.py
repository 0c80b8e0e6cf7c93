"""What a teacher cache's ids and levels would take under better models than the codec `small` has.

Records are those of `teacher_cache.py`'s source `captured`, cut to `--mass`. Every line is bytes
per completion token. `ideal` stands for an arithmetic coder that knows the model's parameters for
nothing, so it is out of reach; the others count what Rice codes really take.

Ids, as sets (their order costs nothing):
  uniform   any set of that size is as likely
  id        a token is kept with the probability of its eighth of an octave of ids (ids of a
            byte-pair tokenizer grow with rarity)
  unigram   ... of how often the other records keep it
  history   ... of how often earlier positions of the record kept it, and whether the last one did
  zones     the shard's ids numbered by frequency and cut into octaves; at each position a count per
            octave, and gaps within it. The shard has to store the order, and a record is unreadable
            without it.
Levels:
  frequency, step, largest   the entropy given that class of the id, or of the position
The last lines are of other bounds of the KL divergence of a position.
"""

import argparse
import itertools
import pathlib
import tempfile
from collections.abc import Sequence

import numpy as np
from reporting import Report
from teacher_cache import captured

from sentidistill_jax.data.teacher_cache import SparseTargets, small
from sentidistill_jax.data.teacher_cache.bits import rice_bits
from sentidistill_jax.data.teacher_cache.records import first_entries


def log2_binomial(n: np.ndarray | int, k: np.ndarray | int) -> np.ndarray:
    """Bits that name one of the sets of k out of n, through sums of logarithms."""
    log2_factorial = np.cumsum(np.log2(np.maximum(np.arange(np.max(n) + 1), 1)))
    return log2_factorial[n] - log2_factorial[k] - log2_factorial[np.subtract(n, k)]


def entropy_bits(counts: np.ndarray) -> float:
    """Bits of a sequence with these counts of its symbols."""
    counts = counts[counts > 0].astype(np.float64)
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def entropy_within(symbols: np.ndarray, classes: np.ndarray) -> float:
    """Bits of a sequence when each symbol's class is known."""
    return sum(entropy_bits(np.bincount(symbols[classes == one])) for one in np.unique(classes))


def binary_bits(kept: np.ndarray, asked: np.ndarray) -> float:
    """Bits of `asked` yes-or-no answers of which `kept` are yes, class by class."""
    no = asked - kept
    yes_bits = kept * np.log2(np.maximum(asked, 1) / np.maximum(kept, 1))
    return float((yes_bits + no * np.log2(np.maximum(asked, 1) / np.maximum(no, 1))).sum())


def inclusion_bits(
    records: Sequence[SparseTargets], vocab: int, *, unigram: bool, history: bool
) -> float:
    """Ideal bits of all id sets when each token of the vocabulary is kept or not by its class."""
    octave = np.log2(np.arange(vocab) + 1)
    total = np.bincount(np.concatenate([r.ids for r in records]), minlength=vocab)
    kept, asked = np.zeros((2, 192 * 24))
    for record in records:
        classes = (8 * octave).astype(np.int64)
        if unigram:
            others = total - np.bincount(record.ids, minlength=vocab)
            often = 20 + (3 * np.log2(np.maximum(others, 1))).astype(np.int64)
            classes = np.where(others > 0, often, octave.astype(np.int64))
        seen, last = np.zeros(vocab, np.int64), np.zeros(0, np.int64)
        ends = np.cumsum(record.counts).tolist()
        for position, (start, end) in enumerate(itertools.pairwise([0, *ends])):
            here = classes * 24
            if history:
                known = np.flatnonzero(seen)
                here[known] += 2 * (1 + seen[known] * 8 // position)
                here[last] += 1
            last = record.ids[start:end]
            asked += np.bincount(here, minlength=len(asked))
            kept += np.bincount(here[last], minlength=len(kept))
            seen[last] += 1
    return binary_bits(kept, asked)


def zones(records: Sequence[SparseTargets], vocab: int) -> dict[str, float]:
    """Bits of the ids by the frequencies of one shard that holds all the records."""
    counts = np.concatenate([record.counts for record in records])
    rows = np.repeat(np.arange(len(counts)), counts)
    ids = np.concatenate([record.ids for record in records])
    frequency = np.bincount(ids, minlength=vocab)
    used = np.count_nonzero(frequency)
    rank = np.empty(vocab, np.int64)
    rank[np.argsort(-frequency, kind="stable")] = np.arange(vocab)
    zone_of = np.log2(np.arange(used) + 1).astype(np.int64)
    width, first = zone_of[-1] + 1, np.searchsorted(zone_of, np.arange(zone_of[-1] + 1))
    ranks = rank[ids]
    ranks = ranks[np.argsort(rows * vocab + ranks)]
    cells = rows * width + zone_of[ranks]
    begins = np.diff(cells, prepend=-1) > 0
    gaps = np.where(begins, ranks - first[zone_of[ranks]], np.diff(ranks, prepend=0) - 1)
    sizes = np.bincount(cells, minlength=len(counts) * width).reshape(-1, width)
    return {
        "gaps": float(sum(rice_bits(gaps[zone_of[ranks] == zone]) for zone in range(width))),
        "counts": float(sum(min(rice_bits(s), rice_bits(s.max() - s)) for s in sizes.T)),
        "the order": float(
            log2_binomial(vocab, int(used)) + entropy_bits(np.bincount(frequency[frequency > 0]))
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=pathlib.Path, help="a captured teacher cache")
    parser.add_argument("--teacher-text", type=int, default=190, help="prompts, without a cache")
    parser.add_argument("--max-records", type=int, default=500)
    parser.add_argument("--mass", type=float, default=0.995, help="as `teacher_cache.py` has it")
    parser.add_argument("--report", metavar="NOTE", help="write a dated report with this note")
    arguments = parser.parse_args()
    report = Report("cache-entropy", packages=("numpy",))
    if arguments.cache:
        modes, vocab = captured(arguments.cache, arguments.max_records)
    else:
        import teacher_text  # loads JAX

        with tempfile.TemporaryDirectory() as folder:
            directory = pathlib.Path(folder) / "records"
            teacher_text.capture_teacher_text(directory, arguments.teacher_text)
            modes, vocab = captured(directory, arguments.max_records)
    records = [targets.sorted_by_id() for targets in modes[f"top_p {arguments.mass}"]]
    counts = np.concatenate([record.counts for record in records])
    positions, entries = len(counts), int(counts.sum())

    def say(name: str, bits: float) -> None:
        report.say(f"{name:44} {bits / 8 / positions:7.2f}")

    report.say(
        f"{len(records)} records, {positions} positions with {entries / positions:.1f} entries each"
    )
    say("ids, uniform, ideal", float(log2_binomial(vocab, counts).sum()))
    for name, unigram, history in [
        ("id", False, False),
        ("unigram", True, False),
        ("id and history", False, True),
        ("unigram and history", True, True),
    ]:
        bits = inclusion_bits(records, vocab, unigram=unigram, history=history)
        say(f"ids, {name}, ideal", bits)
    for name, bits in zones(records, vocab).items():
        say(f"ids, zones: {name}", bits)

    coder = small.RootLevels((1.0,))
    streams = [coder.encode(record)[1] for record in records]
    step, level = (np.concatenate(parts) for parts in zip(*streams, strict=True))
    level = np.minimum(level, 4095)
    ids = np.concatenate([record.ids for record in records])
    rows = np.repeat(np.arange(positions), counts)
    frequency = (1.5 * np.log2(np.bincount(ids)[ids])).astype(np.int64)
    largest = np.log2(1 + np.maximum.reduceat(level, first_entries(counts))).astype(np.int64)[rows]
    say("levels, ideal", entropy_bits(np.bincount(level)))
    for name, classes in [("frequency", frequency), ("step", step[rows]), ("largest", largest)]:
        say(f"levels given {name}, ideal", entropy_within(level, classes))
    for bound in (2e-4, 3e-4, 4e-4):
        small.MAX_KL_NATS = bound
        encoded = [coder.encode(record) for record in records]
        kl = np.concatenate(
            [
                small.closed_kl(
                    record.logprobs,
                    coder.decode(parts, tails, record.counts)[0],
                    record.tail_logprobs[:, 0],
                    tails[:, 0],
                    record.counts,
                    1.0,
                )
                for record, (tails, parts) in zip(records, encoded, strict=True)
            ]
        )
        bits = sum(rice_bits(parts[1]) for _, parts in encoded)
        say(f"levels, KL at most {bound:.0e}, {kl.mean():.1e} on average", bits)
    if arguments.report is not None:
        print(report.write(arguments.report))


if __name__ == "__main__":
    main()
