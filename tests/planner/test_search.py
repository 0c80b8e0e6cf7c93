"""Which candidates are tried, in which order, and which wins; what the compiler says is given."""

import dataclasses
from collections.abc import Iterable
from typing import cast

import pytest

from sentidistill_jax.data.loader import BatchShape
from sentidistill_jax.models.presets import PRESETS
from sentidistill_jax.planner import search
from sentidistill_jax.planner.compile import Compiled
from sentidistill_jax.planner.search import Candidate, Trial
from sentidistill_jax.planner.topology import GIB, Topology
from sentidistill_jax.planner.workloads import TeachWorkload, TrainWorkload
from sentidistill_jax.sharding import data_parallel_degree, mesh_sizes

TOPOLOGY = Topology.parse("2xv5e:4x4")
WORKLOAD = TrainWorkload(
    PRESETS["llama-3.2-1b"], BatchShape(64, 2048, 512), top_k=64, dtype="bfloat16", remat="none",
    optimizer="adamw", micro_batches=1,
)  # fmt: skip
ASKED = Candidate(WORKLOAD, {"data": 2, "fsdp": 16})
LIMIT = 15.75 * GIB


def said(candidate: Candidate, peak_gib: float, seconds: float) -> Compiled:
    """What the compiler says of a program that moves data through HBM for so long."""
    peak, traffic = int(peak_gib * GIB), seconds * TOPOLOGY.chip.hbm_bandwidth
    fits = peak <= LIMIT
    return Compiled(
        dict(candidate.mesh), fits, peak, int(LIMIT), {}, traffic if fits else 0.0, (), (), 0, 1.0
    )


def training(candidate: Candidate) -> TrainWorkload:
    return cast(TrainWorkload, candidate.workload)


def changes(tried: Iterable[Trial]) -> list[str]:
    return [str(one.candidate) for one in tried]


def test_every_candidate_of_the_grid_can_be_run():
    meshes = list(search.grid(ASKED, TOPOLOGY))
    assert [candidates[0].mesh for candidates in meshes] == [
        {"data": data, "fsdp": fsdp, "tensor": tensor}
        for tensor in (1, 2, 4, 8)  # of 8 key-value heads
        for fsdp in dict.fromkeys((16 // tensor, 1))
        for data in (32 // tensor // fsdp,)
    ]
    for candidates in meshes:
        sizes = mesh_sizes(candidates[0].mesh, TOPOLOGY.num_devices)
        assert sizes["data"] % TOPOLOGY.num_slices == 0  # data alone goes from slice to slice
        assert [(one.micro_batches, one.remat) for one in map(training, candidates)] == [
            (micro, remat)
            for micro in (1, 2, 4, 8)
            if 64 % (data_parallel_degree(sizes) * micro) == 0
            for remat in ("none", "dots", "full")
        ]


def test_a_mesh_is_left_once_a_candidate_that_fits_is_no_faster():
    seconds = {"none": None, "dots": 0.3, "full": 0.2}

    def compile(candidate: Candidate) -> Compiled:
        workload = training(candidate)
        of_remat = seconds[workload.remat]
        return said(
            candidate, 20 if of_remat is None else 5, (of_remat or 0) * workload.micro_batches
        )

    found = list(search.fastest(ASKED, TOPOLOGY, compile, lambda candidate: 0, limit=100))
    first = [
        training(one.candidate) for one in found if one.candidate.mesh == found[0].candidate.mesh
    ]
    assert [(one.remat, one.micro_batches) for one in first] == [
        ("none", 1), ("dots", 1), ("full", 1), ("none", 2), ("dots", 2),
    ]  # fmt: skip
    best = search.best(found, TOPOLOGY)
    assert best is found[2]
    few = list(search.fastest(ASKED, TOPOLOGY, compile, lambda candidate: 0, limit=7))
    assert changes(few) == changes(found[:7])


def test_meshes_that_cannot_hold_the_state_are_not_compiled():
    def resident(candidate: Candidate) -> int:
        return int(20 * GIB / (candidate.mesh["fsdp"] * candidate.mesh["tensor"]))

    found = search.fastest(
        ASKED, TOPOLOGY, lambda candidate: said(candidate, 5, 0.1), resident, limit=100
    )
    meshes = {(one.candidate.mesh["fsdp"], one.candidate.mesh["tensor"]) for one in found}
    assert (1, 1) not in meshes and (1, 2) in meshes and (16, 1) in meshes


def test_the_best_is_the_fastest_per_token_of_those_that_fit():
    half = dataclasses.replace(WORKLOAD, shape=BatchShape(32, 2048, 512))
    whole, smaller = Candidate(WORKLOAD, ASKED.mesh, "whole"), Candidate(half, ASKED.mesh, "half")
    tried = [
        Trial(smaller, said(smaller, 5, 0.6)),
        Trial(whole, said(whole, 5, 1.0)),
        Trial(smaller, said(smaller, 20, 0.1)),
    ]
    assert search.best(tried, TOPOLOGY) is tried[1]
    assert search.best(tried[2:], TOPOLOGY) is None
    assert search.best([], TOPOLOGY) is None


def test_fallbacks_are_single_changes_until_one_fits_and_then_all_together():
    all_of_them = [candidate.change for candidate in search.fallbacks(ASKED, TOPOLOGY)]
    assert all_of_them == [
        "student.remat=dots", "student.remat=full", "data.micro_batches=2",
        "optimizer.name=adafactor", "mesh.fsdp=8, mesh.tensor=2", "mesh.fsdp=4, mesh.tensor=4",
        "data.global_batch_size=32",
        "student.remat=dots, student.remat=full, data.micro_batches=2, optimizer.name=adafactor,"
        " mesh.fsdp=16",
    ]  # fmt: skip

    def compile(candidate: Candidate) -> Compiled:
        return said(candidate, 5 if training(candidate).micro_batches > 1 else 20, 0.1)

    found = list(search.first_that_fits(ASKED, TOPOLOGY, compile))
    assert changes(found) == all_of_them[:3]
    assert [one.compiled.fits for one in found] == [False, False, True]


@pytest.mark.parametrize("mesh", [{"data": 32}, {"data": 8, "fsdp": 4}])
def test_a_mesh_that_holds_the_state_more_than_once_in_a_slice_is_split_first(mesh):
    first = next(search.fallbacks(Candidate(WORKLOAD, mesh), TOPOLOGY))
    assert (first.change, first.mesh["data"], first.mesh["fsdp"]) == ("mesh.fsdp=16", 2, 16)


def test_a_teacher_is_given_more_tensor_or_fewer_rows():
    model = PRESETS["llama-3.1-70b"]
    teach = TeachWorkload(model, BatchShape(64, 2048, 512), top_k=64, dtype="bfloat16")
    found = [one.change for one in search.fallbacks(Candidate(teach, ASKED.mesh), TOPOLOGY)]
    assert found == [
        "mesh.fsdp=8, mesh.tensor=2", "mesh.fsdp=4, mesh.tensor=4", "data.global_batch_size=32",
    ]  # fmt: skip
