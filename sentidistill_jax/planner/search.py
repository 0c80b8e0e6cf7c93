"""Other settings of the same step: those that might make it fit, and the fastest that does."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping

from sentidistill_jax.planner.compile import Compiled
from sentidistill_jax.planner.roofline import step_time
from sentidistill_jax.planner.topology import Topology
from sentidistill_jax.planner.workloads import TeachWorkload, TrainWorkload, Workload
from sentidistill_jax.sharding import mesh_sizes

# From the fastest to the smallest.
_REMAT = ("none", "dots", "full")
_MICRO_BATCHES = (1, 2, 4, 8)
_TENSOR = (1, 2, 4, 8)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A workload on a mesh."""

    workload: Workload
    mesh: Mapping[str, int]
    change: str = ""  # from the settings that were asked for, in words of the config

    def __str__(self) -> str:
        return self.change or "as configured"


@dataclasses.dataclass(frozen=True)
class Tried:
    """A setting and what the compiler made of it."""

    setting: Setting
    compiled: Compiled


Compile = Callable[[Setting], Compiled]


def remedies(setting: Setting, topology: Topology) -> Iterator[Setting]:
    """Single changes that need less memory, cheapest first; then those of training together."""
    workload, mesh = setting.workload, setting.mesh
    sizes = mesh_sizes(mesh, topology.num_devices)
    per_slice = topology.num_devices // topology.num_slices
    split = {"data": topology.num_slices, "fsdp": per_slice // sizes[2], "tensor": sizes[2]}
    if sizes[1] < split["fsdp"]:
        yield Setting(workload, split, f"mesh.fsdp={split['fsdp']}")
    if isinstance(workload, TeachWorkload):
        yield from _more_tensor(setting, sizes, per_slice)
        yield from _fewer_rows(setting, topology)
        return
    assert isinstance(workload, TrainWorkload)
    added = workload
    changes: list[str] = []
    ways = sizes[0] * sizes[1]
    for fields, change in _training_changes(workload, ways):
        yield Setting(dataclasses.replace(workload, **fields), mesh, change)
    yield from _more_tensor(setting, sizes, per_slice)
    yield from _fewer_rows(setting, topology)
    for fields, change in _training_changes(workload, ways):
        added = dataclasses.replace(added, **fields)
        changes.append(change)
    if len(changes) > 1:
        yield Setting(
            added, split, ", ".join(dict.fromkeys([*changes, f"mesh.fsdp={split['fsdp']}"]))
        )


def _training_changes(workload: TrainWorkload, ways: int) -> Iterator[tuple[dict, str]]:
    for remat in _REMAT[_REMAT.index(workload.remat) + 1 :]:
        yield {"remat": remat}, f"student.remat={remat}"
    rows = workload.shape.global_batch_size
    for micro in _MICRO_BATCHES:
        if micro > workload.micro_batches and rows % (ways * micro) == 0:
            yield {"micro_batches": micro}, f"data.micro_batches={micro}"
    if workload.optimizer == "adamw":
        yield {"optimizer": "adafactor"}, "optimizer.name=adafactor"


def _more_tensor(setting: Setting, sizes, per_slice: int) -> Iterator[Setting]:
    model = setting.workload.model  # type: ignore[attr-defined]
    for tensor in (2 * sizes[2], 4 * sizes[2]):
        rows = setting.workload.shape.global_batch_size  # type: ignore[attr-defined]
        if per_slice % tensor or model.num_kv_heads % tensor or rows % (per_slice // tensor):
            continue
        fsdp = per_slice // tensor
        mesh = {"data": -1, "fsdp": fsdp, "tensor": tensor}
        yield Setting(setting.workload, mesh, f"mesh.fsdp={fsdp}, mesh.tensor={tensor}")


def _fewer_rows(setting: Setting, topology: Topology) -> Iterator[Setting]:
    workload = setting.workload
    data, fsdp, _ = mesh_sizes(setting.mesh, topology.num_devices)
    shape = workload.shape  # type: ignore[attr-defined]
    micro = getattr(workload, "micro_batches", 1)
    rows = shape.global_batch_size // 2
    while rows and rows % (data * fsdp * micro) == 0:
        smaller = dataclasses.replace(shape, global_batch_size=rows)
        yield Setting(
            dataclasses.replace(workload, shape=smaller),  # type: ignore[type-var]
            setting.mesh,
            f"data.global_batch_size={rows}",
        )
        rows //= 2


def first_that_fits(setting: Setting, topology: Topology, compile: Compile) -> Iterator[Tried]:
    """Tries the remedies one after the other, and stops after the first that fits."""
    for remedy in remedies(setting, topology):
        tried = Tried(remedy, compile(remedy))
        yield tried
        if tried.compiled.fits:
            return


def grid(setting: Setting, topology: Topology) -> Iterator[list[Setting]]:
    """For each mesh worth a try, its settings from the fastest to the smallest."""
    workload = setting.workload
    rows = workload.shape.global_batch_size  # type: ignore[attr-defined]
    model = workload.model  # type: ignore[attr-defined]
    per_slice = topology.num_devices // topology.num_slices
    for tensor in _TENSOR:
        if per_slice % tensor or model.num_kv_heads % tensor:
            continue
        rest = per_slice // tensor
        for fsdp in dict.fromkeys((rest, max(rest // 16, 1), 1)):
            if rest % fsdp or rows % (topology.num_slices * rest):
                continue
            mesh = {"data": topology.num_slices * rest // fsdp, "fsdp": fsdp, "tensor": tensor}
            words = ", ".join(f"mesh.{axis}={size}" for axis, size in mesh.items())
            settings = [Setting(workload, mesh, words)]
            if isinstance(workload, TrainWorkload):
                ways = mesh["data"] * fsdp
                settings = [
                    Setting(
                        dataclasses.replace(workload, remat=remat, micro_batches=micro),
                        mesh,
                        f"{words}, student.remat={remat}, data.micro_batches={micro}",
                    )
                    for micro in _MICRO_BATCHES
                    if rows % (ways * micro) == 0
                    for remat in _REMAT
                ]
            yield settings


def fastest(
    setting: Setting,
    topology: Topology,
    compile: Compile,
    resident: Callable[[Setting], int],
    *,
    limit: int,
) -> Iterator[Tried]:
    """Compiles settings of the grid, mesh by mesh, at most `limit` in all.

    A mesh on which the state alone does not fit is skipped. Of the others, settings are compiled
    until one that fits is no faster than one before it. The first that fits computes least, but
    what is computed again need not go through HBM, so the next may still be faster.
    """
    left = limit
    for settings in grid(setting, topology):
        if not settings or resident(settings[0]) > topology.chip.hbm_gib * 2**30:
            continue
        shortest = math.inf
        for candidate in settings:
            if not left:
                return
            left -= 1
            tried = Tried(candidate, compile(candidate))
            yield tried
            if tried.compiled.fits:
                seconds = seconds_per_token(tried, topology)
                if seconds >= shortest:
                    break
                shortest = seconds


def best(tried: list[Tried], topology: Topology) -> Tried | None:
    """The one with the smallest expected time per token; None if none fits."""
    fitting = [candidate for candidate in tried if candidate.compiled.fits]
    return min(fitting, key=lambda one: seconds_per_token(one, topology), default=None)


def seconds_per_token(tried: Tried, topology: Topology) -> float:
    """Where nothing overlaps, of a setting that fits."""
    workload = tried.setting.workload
    return step_time(tried.compiled, workload.flops(), topology).serial / workload.tokens
