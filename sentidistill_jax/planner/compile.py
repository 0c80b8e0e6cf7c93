"""Compiles a workload for a topology and keeps what the compiler says, by content."""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import time
from collections.abc import Mapping
from typing import Any

import jax

from sentidistill_jax import sharding
from sentidistill_jax.artifact import write_json
from sentidistill_jax.planner.hlo import ArrayType, Program
from sentidistill_jax.planner.hlo_collectives import Collective, collectives
from sentidistill_jax.planner.hlo_traffic import Buffer, hbm_traffic, largest_buffers
from sentidistill_jax.planner.topology import GIB, Topology, describe
from sentidistill_jax.planner.workloads import Workload
from sentidistill_jax.training.train_step import COMPILER_OPTIONS

_VERSION = 3  # of what is kept of a compiled program; another one makes old reports void
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler says of a program for a topology."""

    mesh: dict[str, int]
    fits: bool
    peak_bytes: int  # on one device, as the compiler's buffer assignment has it
    limit_bytes: int  # what the compiler grants a program on one device
    resident: dict[str, int]  # name -> bytes on one device between steps
    hbm_traffic: float  # bytes read and written by one device in a step; 0 where it does not fit
    collectives: tuple[Collective, ...]  # none where it does not fit
    largest: tuple[Buffer, ...]
    unknown_trip_counts: int  # loops that were counted as one round
    seconds: float  # that the compilation took when it was made

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Compiled":
        """What `dataclasses.asdict` gave, read from JSON."""
        found = [Collective(**entry) for entry in values["collectives"]]
        largest = [Buffer(**entry) for entry in values["largest"]]
        return cls(**values | {"collectives": tuple(found), "largest": tuple(largest)})


def default_cache() -> pathlib.Path:
    """Folder where compiled reports are kept."""
    root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(root) / "sentidistill" / "plans"


def compile_for(
    workload: Workload,
    topology: Topology,
    mesh_shape: Mapping[str, int],
    *,
    cache: pathlib.Path | None = None,
) -> Compiled:
    """Compiles, or reads what an equal program gave before.

    Args:
      workload: What is compiled.
      topology: What for.
      mesh_shape: Sizes of the mesh axes; see `sharding.make_mesh`.
      cache: Folder of reports. A report's name is the hash of the traced program, the topology and
        the compiler's options and versions, so any change of code or settings makes another one.

    Raises:
      ValueError: If mesh or sizes do not fit one another, or libtpu is not installed.
    """
    devices = describe(topology)
    mesh = sharding.make_mesh(mesh_shape, devices)
    lowered = workload.lower(mesh)
    path = (cache or default_cache()) / f"{_key(lowered, topology, mesh)}.json"
    if path.is_file():
        return Compiled.from_json(json.loads(path.read_text()))
    compiled = _compile(workload, topology, mesh, lowered)
    write_json(path, dataclasses.asdict(compiled))
    return compiled


def _key(lowered: jax.stages.Lowered, topology: Topology, mesh: jax.sharding.Mesh) -> str:
    import libtpu  # pyright: ignore[reportMissingImports]

    digest = hashlib.blake2b(digest_size=16)
    order = [device.id for device in mesh.devices.flat]
    versions = _VERSION, jax.__version__, getattr(libtpu, "__version__", "")
    for part in (versions, COMPILER_OPTIONS, str(topology), order, lowered.as_text()):
        digest.update(str(part).encode())
    return digest.hexdigest()


def _compile(
    workload: Workload,
    topology: Topology,
    mesh: jax.sharding.Mesh,
    lowered: jax.stages.Lowered,
) -> Compiled:
    start = time.perf_counter()
    limit = int(topology.chip.hbm_gib * GIB)
    mesh_shape = {name: int(size) for name, size in mesh.shape.items()}
    resident = workload.resident(mesh)
    try:
        executable = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        message = str(error)
        needed = needed_bytes(message)
        if needed is None:
            raise
        return Compiled(
            mesh_shape, False, max(needed, limit), limit, resident, 0.0, (),
            buffers_of_message(message) or arrays_of_trace(lowered.as_text(), mesh.size), 0,
            time.perf_counter() - start,
        )  # fmt: skip
    program = Program(executable.as_text() or "")
    stats: Any = executable.memory_analysis()
    return Compiled(
        mesh=mesh_shape,
        fits=True,
        peak_bytes=int(stats.peak_memory_in_bytes),
        limit_bytes=limit,
        resident=resident,
        hbm_traffic=hbm_traffic(program),
        collectives=tuple(collectives(program, list(mesh.devices.flat))),
        largest=largest_buffers(program),
        unknown_trip_counts=program.unknown_trip_counts,
        seconds=time.perf_counter() - start,
    )


def needed_bytes(message: str) -> int | None:
    """Bytes per device that a program which does not fit would need; None for other errors."""
    used = re.search(r"[Uu]sed ([\d.]+)([KMGT]) of [\d.]+[KMGT] hbm", message) or re.search(
        r"\(([\d.]+)([KMGT])\) exceeds available HBM", message
    )
    return int(float(used[1]) * _UNITS[used[2]]) if used else None


def buffers_of_message(message: str) -> tuple[Buffer, ...]:
    """The allocations that the compiler lists, largest first, when a program does not fit."""
    found = []
    for entry in re.split(r"\n\s*\d+\. Size: ", message)[1:]:
        size = re.match(r"([\d.]+)([KMGT]?)", entry)
        shape = re.search(r"Shape: (\S+?)(?:\{|\s|$)", entry)
        operator = re.search(r'op_name="([^"]*)"', entry)
        if size:
            num_bytes = int(float(size[1]) * _UNITS.get(size[2], 1))
            found.append(
                Buffer(shape[1] if shape else "", num_bytes, operator[1] if operator else "")
            )
    return tuple(found[:5])


def arrays_of_trace(text: str, num_devices: int) -> tuple[Buffer, ...]:
    """The largest arrays that a traced program names, for when the compiler lists none.

    Where they lie is not decided yet: the bytes are those of an even split over all devices.

    Args:
      text: StableHLO.
      num_devices: Devices of the mesh.
    """
    found = set(re.findall(r"tensor<((?:\d+x)+)(bf16|f\d+)>", text))
    types = [ArrayType(dtype, tuple(map(int, dims[:-1].split("x"))), "") for dims, dtype in found]
    largest = sorted(types, key=lambda array: -array.num_bytes)[:5]
    return tuple(
        Buffer(
            f"{array.dtype}[{','.join(map(str, array.shape))}]",
            array.num_bytes // num_devices,
            f"over {num_devices} devices",
        )
        for array in largest
    )
