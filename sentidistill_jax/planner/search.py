"""Other settings of the same step: those that might make it fit, and the fastest that does."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sentidistill_jax.planner.compile import Compiled
from sentidistill_jax.planner.roofline import step_time
from sentidistill_jax.planner.topology import Topology
from sentidistill_jax.planner.workloads import TrainWorkload, Workload
from sentidistill_jax.sharding import data_parallel_degree, mesh_sizes

# From the fastest to the smallest.
_REMAT = ("none", "dots", "full")
_MICRO_BATCHES = (1, 2, 4, 8)
_TENSOR = (1, 2, 4, 8)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A workload on a mesh."""

    workload: Workload
    mesh: Mapping[str, int]
    change: str = ""  # from the settings that were asked for, in words of the config

    def __str__(self) -> str:
        return self.change or "as configured"


@dataclasses.dataclass(frozen=True)
class Trial:
    """A candidate and what the compiler made of it."""

    candidate: Candidate
    compiled: Compiled


Compile = Callable[[Candidate], Compiled]


def fallbacks(candidate: Candidate, topology: Topology) -> Iterator[Candidate]:
    """Single changes that need less memory, cheapest first; then those of training together."""
    workload = candidate.workload
    sizes = mesh_sizes(candidate.mesh, topology.num_devices)
    per_slice = topology.num_devices // topology.num_slices
    fsdp = per_slice // sizes["tensor"]
    split = sizes | {"data": topology.num_slices, "fsdp": fsdp}
    if sizes["fsdp"] < fsdp:
        yield Candidate(workload, split, f"mesh.fsdp={fsdp}")
    changes = []
    if isinstance(workload, TrainWorkload):
        changes = list(_training_changes(workload, data_parallel_degree(sizes)))
    for fields, words in changes:
        yield dataclasses.replace(
            candidate, workload=dataclasses.replace(workload, **fields), change=words
        )
    yield from _more_tensor(candidate, sizes["tensor"], per_slice)
    yield from _fewer_rows(candidate, data_parallel_degree(sizes))
    if len(changes) > 1:
        together = {name: value for fields, _ in changes for name, value in fields.items()}
        words = dict.fromkeys([*(words for _, words in changes), f"mesh.fsdp={fsdp}"])
        yield Candidate(dataclasses.replace(workload, **together), split, ", ".join(words))


def _training_changes(workload: TrainWorkload, degree: int) -> Iterator[tuple[dict[str, Any], str]]:
    for remat in _REMAT[_REMAT.index(workload.remat) + 1 :]:
        yield {"remat": remat}, f"student.remat={remat}"
    for micro in _MICRO_BATCHES:
        if micro > workload.micro_batches and workload.rows % (degree * micro) == 0:
            yield {"micro_batches": micro}, f"data.micro_batches={micro}"
    if workload.optimizer == "adamw":
        yield {"optimizer": "adafactor"}, "optimizer.name=adafactor"


def _more_tensor(candidate: Candidate, asked: int, per_slice: int) -> Iterator[Candidate]:
    workload = candidate.workload
    for tensor in (2 * asked, 4 * asked):
        fsdp, left = divmod(per_slice, tensor)
        if left or workload.model.num_kv_heads % tensor or workload.rows % fsdp:
            continue
        mesh = {"data": -1, "fsdp": fsdp, "tensor": tensor}
        yield Candidate(workload, mesh, f"mesh.fsdp={fsdp}, mesh.tensor={tensor}")


def _fewer_rows(candidate: Candidate, degree: int) -> Iterator[Candidate]:
    workload = candidate.workload
    rows = workload.rows // 2
    while rows and rows % workload.row_multiple(degree) == 0:
        smaller = dataclasses.replace(workload.shape, global_batch_size=rows)
        yield dataclasses.replace(
            candidate,
            workload=dataclasses.replace(workload, shape=smaller),
            change=f"data.global_batch_size={rows}",
        )
        rows //= 2


def first_that_fits(candidate: Candidate, topology: Topology, compile: Compile) -> Iterator[Trial]:
    """Tries the fallbacks one after the other, and stops after the first that fits."""
    for fallback in fallbacks(candidate, topology):
        trial = Trial(fallback, compile(fallback))
        yield trial
        if trial.compiled.fits:
            return


def grid(candidate: Candidate, topology: Topology) -> Iterator[list[Candidate]]:
    """For each mesh worth a try, its candidates from the fastest to the smallest."""
    workload = candidate.workload
    per_slice = topology.num_devices // topology.num_slices
    for tensor in _TENSOR:
        if per_slice % tensor or workload.model.num_kv_heads % tensor:
            continue
        rest = per_slice // tensor
        for fsdp in dict.fromkeys((rest, max(rest // 16, 1), 1)):
            if rest % fsdp or workload.rows % (topology.num_slices * rest):
                continue
            mesh = {"data": topology.num_slices * rest // fsdp, "fsdp": fsdp, "tensor": tensor}
            words = ", ".join(f"mesh.{axis}={size}" for axis, size in mesh.items())
            if not isinstance(workload, TrainWorkload):
                yield [Candidate(workload, mesh, words)]
                continue
            yield [
                Candidate(
                    dataclasses.replace(workload, remat=remat, micro_batches=micro),
                    mesh,
                    f"{words}, student.remat={remat}, data.micro_batches={micro}",
                )
                for micro in _MICRO_BATCHES
                if workload.rows % (data_parallel_degree(mesh) * micro) == 0
                for remat in _REMAT
            ]


def fastest(
    candidate: Candidate,
    topology: Topology,
    compile: Compile,
    resident: Callable[[Candidate], int],
    *,
    limit: int,
) -> Iterator[Trial]:
    """Compiles candidates of the grid, mesh by mesh, at most `limit` in all.

    A mesh on which the state alone does not fit is skipped. Of the others, candidates are compiled
    until one that fits is no faster than one before it. The first that fits computes least, but
    what is computed again need not go through HBM, so the next may still be faster.
    """
    left = limit
    for candidates in grid(candidate, topology):
        if not candidates or resident(candidates[0]) > topology.chip.hbm_gib * 2**30:
            continue
        shortest = math.inf
        for one in candidates:
            if not left:
                return
            left -= 1
            trial = Trial(one, compile(one))
            yield trial
            if trial.compiled.fits:
                seconds = seconds_per_token(trial, topology)
                if seconds >= shortest:
                    break
                shortest = seconds


def best(trials: Sequence[Trial], topology: Topology) -> Trial | None:
    """The trial with the smallest expected time per token; None if none fits."""
    fitting = [trial for trial in trials if trial.compiled.fits]
    return min(fitting, key=lambda one: seconds_per_token(one, topology), default=None)


def seconds_per_token(trial: Trial, topology: Topology) -> float:
    """Seconds per token of a trial that fits, if all overlaps that its program lets overlap."""
    workload = trial.candidate.workload
    return step_time(trial.compiled, workload.flops(), topology).exposed / workload.tokens
