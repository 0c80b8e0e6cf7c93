"""Written in three shares, read by one, two or five: the same data and the same losses."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import KINDS, TINY, make_manifest, random_record

from sentidistill_jax.data.batch import Batch
from sentidistill_jax.data.loader import BatchShape, PackedBatches
from sentidistill_jax.data.teacher_cache import CacheReader, CacheWriter, open_cache
from sentidistill_jax.training.objectives import CachedObjective, Normalizers, StudentOutput

WRITERS, SEQUENCES, EMBED = 3, 60, 8
MANIFEST = make_manifest(SEQUENCES, records_per_shard=7, codec="small")
SHAPE = BatchShape(global_batch_size=10, seq_length=24, scored_length=14)


def write_share(directory: pathlib.Path, process: int) -> None:
    """What one of the writing processes does."""
    rng = np.random.default_rng(0)
    records = [
        random_record(
            rng,
            MANIFEST,
            prompt=int(rng.integers(1, 9)),
            completion=int(rng.integers(1, 8)),
            kind=KINDS[index % len(KINDS)],
        )
        for index in range(SEQUENCES)
    ]
    writer = CacheWriter(directory, MANIFEST)
    for shard in range(process, MANIFEST.num_shards, WRITERS):
        writer.write_shard(shard, records[slice(*writer.shard_range(shard))])


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> CacheReader:
    directory = tmp_path_factory.mktemp("cache")
    for process in range(WRITERS):
        write_share(directory, process)
    CacheWriter(directory, MANIFEST).finish()
    return open_cache(directory)


@functools.partial(jax.jit, static_argnames="segments")
def losses_of_segments(row: Batch, *, segments: int) -> jax.Array:
    """Sum of each packed sequence of a row; hidden states depend on tokens and positions alone."""
    keys = jax.random.split(jax.random.key(0), 3)
    tokens = jax.random.normal(keys[0], (TINY.vocab_size, EMBED))[row.tokens]
    positions = jax.random.normal(keys[1], (SHAPE.seq_length, EMBED))[row.positions]
    head = jax.random.normal(keys[2], (TINY.vocab_size, EMBED))
    by_segment = jnp.take_along_axis(row.segment_ids, row.scored, axis=1)
    row = dataclasses.replace(row, kind_ids=by_segment)
    objective = CachedObjective(name="icldist", label_weight=1.0)
    scored = jnp.take_along_axis(tokens + positions, row.scored[:, :, None], axis=1)
    _, means = objective.loss(
        StudentOutput(scored, head), objective.teacher_signal(None, row, 0.0), row,
        Normalizers.of(row), progress=0.0, num_kinds=segments, mesh=None,
    )  # fmt: skip
    return jnp.sum(jnp.stack([mean.total for mean in means.values()]), axis=0)


def losses_by_sequence(batches: PackedBatches) -> dict[tuple[int, ...], float]:
    """Tokens of every sequence -> its loss; fails if one comes twice."""
    found: dict[tuple[int, ...], float] = {}
    for step in range(len(batches)):
        arrays = batches[step]
        for at in range(len(arrays["tokens"])):
            row = Batch(**{name: jnp.asarray(array[at : at + 1]) for name, array in arrays.items()})
            losses = losses_of_segments(row, segments=SHAPE.seq_length)
            for segment in range(1, int(arrays["segment_ids"][at].max()) + 1):
                here = arrays["segment_ids"][at] == segment
                sequence = tuple(arrays["tokens"][at, here].tolist())
                assert sequence not in found
                found[sequence] = float(losses[segment])
    return found


def test_every_sequence_once_with_the_same_loss_on_any_number_of_hosts(reader):
    expected = {tuple(reader[index].tokens.tolist()) for index in range(SEQUENCES)}
    assert len(expected) == SEQUENCES
    by_hosts = {}
    for hosts in (1, 2, 5):
        found: dict[tuple[int, ...], float] = {}
        for host in range(hosts):
            share = losses_by_sequence(
                PackedBatches(
                    [reader], SHAPE, epochs=1, seed=3, process_index=host, process_count=hosts
                )
            )
            assert not share.keys() & found.keys()
            found |= share
        assert found.keys() == expected
        by_hosts[hosts] = np.array([found[sequence] for sequence in sorted(found)])
    assert by_hosts[1].min() > 0
    for losses in (by_hosts[2], by_hosts[5]):
        np.testing.assert_allclose(losses, by_hosts[1], rtol=1e-6)
    # Packed with other sequences too it has the same loss.
    found = losses_by_sequence(PackedBatches([reader], SHAPE, epochs=1, seed=4))
    losses = np.array([found[sequence] for sequence in sorted(found)])
    np.testing.assert_allclose(losses, by_hosts[1], rtol=1e-6)
