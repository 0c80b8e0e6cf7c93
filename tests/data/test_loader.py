"""Batches of tiny caches written out in full, and the same data on any number of processes."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import KINDS, make_manifest, random_cache, write_cache

from sentidistill_jax.data.batch import Batch
from sentidistill_jax.data.loader import (
    MAX_LABELS,
    BatchShape,
    PackedBatches,
    calibrated_answer,
    calibrated_draws,
    iterate,
)
from sentidistill_jax.data.teacher_cache import (
    CacheMismatchError,
    CacheRecord,
    LabelTargets,
    SparseTargets,
    open_cache,
    sampled_targets,
)
from sentidistill_jax.sharding import make_mesh

INF = np.inf
# Probabilities that are exact in float32 and add up to 1 with the tail.
QUARTER, HALF = np.log(np.float32(0.25)), np.log(np.float32(0.5))

# Two prompt tokens, then a label word (31 rather than 32) and a newline.
LABELLED = CacheRecord(
    key=b"a" * 16,
    prompt_id="labelled",
    kind="polarity",
    tokens=np.array([11, 12, 31, 10], np.int32),
    completion_start=2,
    targets=SparseTargets(
        counts=np.array([2, 1], np.int32),
        ids=np.array([31, 32, 10], np.int32),
        logprobs=np.array([QUARTER, HALF, HALF], np.float32),
        tail_logprobs=np.array([[QUARTER, -1.5], [HALF, -0.75]], np.float32),
    ),
    labels=LabelTargets(
        position=0,
        ids=np.array([31, 32], np.int32),
        raw_logprobs=np.array([QUARTER, HALF], np.float32),
        logprobs=np.log(np.array([2 / 3, 1 / 3], np.float32)),
    ),
)
# One prompt token, two of free text.
FREE = CacheRecord(
    key=b"b" * 16,
    prompt_id="free",
    kind="emotion",
    tokens=np.array([21, 22, 23], np.int32),
    completion_start=1,
    targets=SparseTargets(
        counts=np.array([1, 2], np.int32),
        ids=np.array([22, 23, 24], np.int32),
        logprobs=np.array([HALF, QUARTER, QUARTER], np.float32),
        tail_logprobs=np.array([[HALF, -0.8], [HALF, -0.9]], np.float32),
    ),
    labels=None,
)
SEED = 1  # shuffles two sequences into the order they are in


@pytest.fixture
def readers(tmp_path):
    directory = write_cache(tmp_path / "cache", [LABELLED, FREE], make_manifest(2))
    return [open_cache(directory)]


def packed(readers, rows=2, *, seq=9, scored=5, epochs=1, seed=SEED, **options):
    return PackedBatches(
        readers, BatchShape(rows, seq, scored), epochs=epochs, seed=seed, **options
    )


def test_what_fits_into_no_row_is_left_out_and_counted(readers):
    for short in ({"seq": 3}, {"seq": 3, "scored": 2}):
        batches = packed(readers, rows=1, epochs=2, **short)
        assert (len(batches), batches.num_sequences, batches.num_too_long) == (2, 1, 1)
        for step in range(2):
            assert batches[step]["tokens"].tolist() == [[21, 22, 23]]
    with pytest.raises(ValueError, match="none of the 2 sequences fits .* the shortest has 3 tok"):
        packed(readers, seq=2)


def test_rows_written_out(readers):
    batches = packed(readers, calibrate_answers=False, temperatures=(2.0, 1.0))
    assert (len(batches), batches.num_sequences) == (1, 2)
    assert batches.kinds == ("emotion", "polarity")
    got = batches[0]
    no_labels, nothing = [-1] * MAX_LABELS, [-INF] * MAX_LABELS
    full = {
        "tokens": [11, 12, 31, 10, 21, 22, 23, 0, 0],
        "positions": [0, 1, 2, 3, 0, 1, 2, 0, 0],
        "segment_ids": [1, 1, 1, 1, 2, 2, 2, 0, 0],
        "scored": [1, 2, 4, 5, 0],  # the tokens whose successors are scored
        "targets": [31, 10, 22, 23, 0],
        "loss_mask": [1, 1, 1, 1, 0],
        "loss_weights": [1, 1, 1, 1, 0],
        "kind_ids": [1, 1, 0, 0, 0],
        "top_k_ids": [[31, 32], [10, 0], [22, 0], [23, 24], [0, 0]],
        "top_k_logprobs": [
            [QUARTER, HALF],
            [HALF, -INF],
            [HALF, -INF],
            [QUARTER, QUARTER],
            [-INF, -INF],
        ],
        "tail_logprobs": [[-1.5, QUARTER], [-0.75, HALF], [-0.8, HALF], [-0.9, HALF], [0, 0]],
        "label_ids": [[31, 32] + [-1] * (MAX_LABELS - 2)] + [no_labels] * 4,
        "label_logprobs": [
            [np.log(2 / 3), np.log(1 / 3)] + [-INF] * (MAX_LABELS - 2),
            *[nothing] * 4,
        ],
    }
    empty = {
        "tokens": [0] * 9,
        "positions": [0] * 9,
        "segment_ids": [0] * 9,
        "scored": [0] * 5,
        "targets": [0] * 5,
        "loss_mask": [0] * 5,
        "loss_weights": [0] * 5,
        "kind_ids": [0] * 5,
        "top_k_ids": [[0, 0]] * 5,
        "top_k_logprobs": [[-INF, -INF]] * 5,
        "tail_logprobs": [[0, 0]] * 5,
        "label_ids": [no_labels] * 5,
        "label_logprobs": [nothing] * 5,
    }
    assert set(got) == {field.name for field in dataclasses.fields(Batch)}
    for name, array in got.items():
        expected = np.stack([full[name], empty[name]]).astype(array.dtype)
        np.testing.assert_allclose(array, expected, rtol=1e-6, err_msg=name)


def test_integers_and_floats_keep_32_bits(readers):
    kinds = {name: str(array.dtype) for name, array in packed(readers)[0].items()}
    assert set(kinds.values()) == {"int32", "float32"}


class TestCalibratedAnswer:
    def test_moves_mass_among_the_label_words_only(self):
        ids, logprobs = LABELLED.targets.pad(3)
        moved = calibrated_answer(LABELLED, ids, logprobs)
        # Together they had 3/4: the calibrated target shares it 2 to 1.
        np.testing.assert_allclose(np.exp(moved), [[0.5, 0.25, 0], [0.5, 0, 0]], rtol=1e-6)
        np.testing.assert_allclose(np.exp(logprobs), [[0.25, 0.5, 0], [0.5, 0, 0]], rtol=1e-6)

    def test_a_padding_entry_is_no_label_word_of_id_0(self):
        record = dataclasses.replace(
            LABELLED,
            labels=LabelTargets(
                1,
                np.array([0, 10], np.int32),
                np.array([-20, HALF], np.float32),
                np.array([-1, -0.5], np.float32),
            ),
        )
        moved = calibrated_answer(record, *record.targets.pad(2))
        assert moved[1, 1] == -INF and moved[1, 0] > -INF

    def test_without_labels_nothing_moves(self):
        ids, logprobs = FREE.targets.pad(2)
        assert calibrated_answer(FREE, ids, logprobs) is logprobs

    def test_rows_of_a_batch_stay_normalized(self, tmp_path):
        cache = random_cache(tmp_path / "cache", [(3, 2)] * 6)
        batches = packed([open_cache(cache)], rows=6, seq=5, scored=2)
        batch = batches[0]
        mass = np.exp(batch["top_k_logprobs"]).sum(axis=-1) + np.exp(batch["tail_logprobs"][..., 0])
        np.testing.assert_allclose(mass, 1, rtol=1e-5)
        answers = (batch["label_ids"] >= 0).any(axis=-1)
        raw = packed([open_cache(cache)], rows=6, seq=5, scored=2, calibrate_answers=False)[0]
        changed = (raw["top_k_logprobs"] != batch["top_k_logprobs"]).any(axis=-1)
        np.testing.assert_array_equal(changed, answers)


class TestDraws:
    MANIFEST = make_manifest(1, mode="sampled", num_draws=4, temperatures=(1.0,))

    def drawn(self, *draws):
        return dataclasses.replace(LABELLED, targets=sampled_targets(np.array(draws)))

    def test_those_of_label_words_are_spread_as_calibrated(self, tmp_path):
        record = self.drawn([31, 31, 32, 40], [10, 10, 10, 10])
        directory = write_cache(tmp_path / "cache", [record], self.MANIFEST)
        batches = packed([open_cache(directory)], rows=1, seq=4, scored=2)
        assert batches.sampled
        ids, shares = batches[0]["top_k_ids"][0], np.exp(batches[0]["top_k_logprobs"][0])
        assert dict(zip(ids[0, :3].tolist(), shares[0, :3], strict=True)) == {
            40: pytest.approx(0.25), 31: pytest.approx(0.5), 32: pytest.approx(0.25)
        }  # fmt: skip
        assert (ids[1, 0], shares[1, 0]) == (10, 1)
        np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-6)
        assert np.isneginf(batches[0]["tail_logprobs"]).all()

    def test_none_on_a_label_word_stays_so(self, tmp_path):
        record = self.drawn([40, 40, 41, 40], [10, 10, 10, 10])
        directory = write_cache(tmp_path / "cache", [record], self.MANIFEST)
        batch = packed([open_cache(directory)], rows=1, seq=4, scored=2)[0]
        assert batch["top_k_ids"][0, 0, :2].tolist() == [40, 41]
        np.testing.assert_allclose(np.exp(batch["top_k_logprobs"][0, 0, :3]), [0.75, 0.25, 0])

    def test_they_estimate_the_calibrated_distribution_without_bias(self):
        rng = np.random.default_rng(0)
        probs = np.array([0.3, 0.2, 0.4, 0.1])  # of 31, 32, 40, 41
        draws = np.array([31, 32, 40, 41])[rng.choice(4, (4000, 8), p=probs)]
        total = np.zeros((4000, 42))
        for row, of_row in enumerate(draws):
            record = self.drawn(of_row, [10] * 8)
            ids, logprobs = calibrated_draws(record, *record.targets.pad(12))
            np.add.at(total[row], ids[0], np.exp(logprobs[0]))
        mean = total[:, [31, 32, 40, 41]].mean(axis=0)
        sigma = total[:, [31, 32, 40, 41]].std(axis=0) / np.sqrt(4000)
        assert (abs(mean - [1 / 3, 1 / 6, 0.4, 0.1]) < 5 * sigma).all()

    def test_they_are_not_mixed_with_other_modes(self, tmp_path, readers):
        record = self.drawn([31, 31, 32, 40], [10, 10, 10, 10])
        drawn = open_cache(write_cache(tmp_path / "drawn", [record], self.MANIFEST))
        with pytest.raises(ValueError, match=r"modes \['sampled', 'top_k'\] got together"):
            packed([*readers, drawn])


@pytest.fixture
def many(tmp_path):
    """Eleven sequences in two caches."""
    sizes = [(3, 2), (5, 1), (1, 4), (2, 2), (4, 3), (2, 1)]
    return [
        open_cache(random_cache(tmp_path / "one", sizes)),
        open_cache(random_cache(tmp_path / "two", sizes[:5])),
    ]


def sequences_of(batch):
    """The packed sequences of a batch, padding left out."""
    for tokens, segments in zip(batch["tokens"], batch["segment_ids"], strict=True):
        for segment in range(1, segments.max() + 1):
            yield tuple(tokens[segments == segment].tolist())


def test_every_sequence_once_per_epoch_from_all_caches(many):
    expected = [tuple(reader[index].tokens.tolist()) for reader in many for index in range(5)]
    expected.append(tuple(many[0][5].tokens.tolist()))
    batches = packed(many, rows=2, epochs=3)
    seen = [one for step in range(len(batches)) for one in sequences_of(batches[step])]
    assert sorted(seen) == sorted(expected * 3)
    assert batches.kinds == KINDS


@pytest.mark.parametrize("processes", [2, 4])
def test_one_process_sees_the_union_of_many(many, processes):
    whole = packed(many, rows=4, epochs=2)
    parts = [
        packed(many, rows=4, epochs=2, process_index=index, process_count=processes)
        for index in range(processes)
    ]
    assert {len(part) for part in parts} == {len(whole)}
    for step in range(len(whole)):
        for name, rows in whole[step].items():
            union = np.stack([part[step][name] for part in parts], axis=1)
            np.testing.assert_array_equal(union.reshape(rows.shape), rows)


def test_only_the_last_batch_has_empty_rows(many):
    batches = packed(many, rows=3)
    filled = [batches[step]["segment_ids"].any(axis=1) for step in range(len(batches))]
    assert len(filled) > 1
    assert np.concatenate(filled[:-1]).all()
    assert filled[-1].any() and not filled[-1].all()
    assert (np.diff(filled[-1].astype(int)) <= 0).all()  # at its end


def test_start_step_continues_where_a_run_stopped(many):
    batches = packed(many, rows=2, epochs=2)
    mesh = make_mesh({"data": 1}, jax.devices()[:1])
    every = list(iterate(batches, mesh, start_step=0))
    assert len(every) == len(batches) > 3
    rest = list(iterate(batches, mesh, start_step=3))
    assert len(rest) == len(batches) - 3
    for got, expected in zip(rest, every[3:], strict=True):
        jax.tree.map(np.testing.assert_array_equal, got, expected)
    assert not list(iterate(batches, mesh, start_step=len(batches)))


def test_batches_lie_on_the_mesh_by_rows(many):
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    batches = packed(many, rows=8)
    (batch, *_) = iterate(batches, mesh, start_step=0)
    assert {shard.data.shape[0] for shard in batch.tokens.addressable_shards} == {2}
    np.testing.assert_array_equal(batch.tokens, batches[0]["tokens"])


def test_a_position_weighs_what_its_cache_and_its_kind_weigh(tmp_path):
    readers = [
        open_cache(write_cache(tmp_path / name, [record], make_manifest(1)))
        for name, record in (("labelled", LABELLED), ("free", FREE))
    ]
    weights = {"cache_weights": [0.5, 3.0], "kind_weights": {"polarity": 8.0}}
    batch = packed(readers, rows=1, **weights)[0]
    np.testing.assert_array_equal(batch["loss_weights"], [[4, 4, 3, 3, 0]])
    np.testing.assert_array_equal(batch["loss_mask"], [[1, 1, 1, 1, 0]])


class TestErrors:
    def test_a_weight_of_a_kind_that_no_cache_holds(self, readers):
        with pytest.raises(ValueError, match=r"kind_weights names \['irony'\].*\['emotion', 'pola"):
            packed(readers, kind_weights={"irony": 2.0})

    def test_processes_must_divide_the_batch(self, readers):
        with pytest.raises(ValueError, match="global_batch_size=6 must be a multiple of the 4"):
            packed(readers, rows=6, process_count=4)

    def test_the_tail_must_be_known_at_the_temperature(self, readers):
        with pytest.raises(CacheMismatchError, match=r"got one of \(1.0, 2.0\), expected 3.0"):
            packed(readers, temperatures=(1.0, 3.0))

    def test_too_many_label_words(self, tmp_path):
        labels = 9
        ids = np.arange(1, labels + 1, dtype=np.int32)
        logprobs = np.full((labels,), -np.log(labels), np.float32)
        record = dataclasses.replace(LABELLED, labels=LabelTargets(0, ids, logprobs - 1, logprobs))
        directory = write_cache(tmp_path / "cache", [record], make_manifest(1))
        with pytest.raises(ValueError, match="prompt labelled has 9 label words, at most 8"):
            _ = packed([open_cache(directory)])[0]
