"""Chips, slices and how their devices are connected; published figures with their sources.

Only `describe` imports JAX: the launcher reads the same table on machines that have none.
"""

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from typing import Any

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One kind of accelerator as a program sees it: a device, which is a chip but for tpu7x.

    HBM is what the compiler grants a program, found by compiling one that is too large; it is less
    than the chip carries. Peaks and memory bandwidth are those of docs.cloud.google.com/tpu/docs/
    (v4, v5e, v5p, v6e, tpu7x). Link bandwidth is what "How to Scale Your Model"
    (jax-ml.github.io/scaling-book/tpus) gives for one link in one direction; for tpu7x it is a
    twelfth of the 1200 GB/s per chip in both directions. DCN is the pod's published bandwidth
    divided by its chips.
    """

    name: str
    libtpu_name: str  # in topology names
    hbm_gib: float  # usable by one device
    peak_flops: float  # bfloat16, per second
    hbm_bandwidth: float  # bytes per second
    ici_link_bandwidth: float  # bytes per second, one direction
    dcn_bandwidth: float  # bytes per second and device, one direction
    torus_dims: int
    wrap: int  # a dim of the slice is a ring when its size is a multiple of this
    accelerator_type: str  # prefix of the Cloud TPU type, as in v5litepod-16
    cores_per_chip_in_type: int  # v4-8 is four chips: some types count cores
    gke_accelerator: str  # value of the node label
    runtime_version: str  # of Cloud TPU VMs
    chips_per_host: int = 4
    max_chips: int = 256  # of one slice
    devices_per_chip: int = 1
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)  # of the topology query


CHIPS: Mapping[str, Chip] = {
    chip.name: chip
    for chip in (
        Chip(
            "v4", "v4", 30.75, 275e12, 1.2e12, 45e9, 6.25e9, 3, 4, "v4", 2,
            "tpu-v4-podslice", "tpu-ubuntu2204-base", max_chips=4096,
            options={"chip_config_name": "megacore"},
        ),
        Chip(
            "v5e", "v5e", 15.75, 197e12, 819e9, 45e9, 3.125e9, 2, 16, "v5litepod", 1,
            "tpu-v5-lite-podslice", "v2-alpha-tpuv5-lite",
        ),
        Chip(
            "v5p", "v5", 95.74, 459e12, 2.765e12, 90e9, 6.25e9, 3, 4, "v5p", 2,
            "tpu-v5p-slice", "v2-alpha-tpuv5", max_chips=6144,
        ),
        Chip(
            "v6e", "v6e", 31.25, 918e12, 1.6e12, 90e9, 12.5e9, 2, 16, "v6e", 1,
            "tpu-v6e-slice", "v2-alpha-tpuv6e",
        ),
        Chip(
            "tpu7x", "tpu7x", 94.75, 1153.5e12, 3.69e12, 100e9, 6.25e9, 3, 4, "tpu7x", 2,
            "tpu7x", "v2-alpha-tpu7", max_chips=9216, devices_per_chip=2,
        ),
    )
}  # fmt: skip
_ALIASES = {"v5": "v5p", "v5litepod": "v5e"}
# Shapes of slices by their number of dims, as in the tables of Google Kubernetes Engine
# (docs.cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus). In three dims larger ones are
# made of cubes of 4x4x4.
_SHAPES = {
    2: ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    3: ("2x2x1", "2x2x2", "2x2x4", "2x4x4"),
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """One or more equal slices of TPU chips."""

    chip: Chip
    shape: tuple[int, ...]  # chips along each dim of one slice
    num_slices: int = 1

    @classmethod
    def parse(cls, text: str) -> "Topology":
        """Reads `v5e:16x16`, `v5:4x4x4` or, for two slices, `2xv5e:16x16`.

        Raises:
          ValueError: If there is no such chip, or no slice of that shape.
        """
        match = re.fullmatch(r"(?:(\d+)x)?([a-z]+\d\w*):(\d+(?:x\d+)*)", text)
        if not match:
            raise ValueError(
                f"topology={text!r} is none; expected CHIP:SHAPE, such as v5e:16x16, v5p:4x4x4 or"
                " 2xv5e:16x16."
            )
        slices, name, sizes = match.groups()
        chip = CHIPS.get(_ALIASES.get(name, name))
        if chip is None:
            raise ValueError(f"topology={text!r}: chip {name!r} must be one of {sorted(CHIPS)}.")
        shape = tuple(int(size) for size in sizes.split("x"))
        if len(shape) != chip.torus_dims:
            example = "16x16" if chip.torus_dims == 2 else "4x4x4"
            raise ValueError(
                f"topology={text!r}: {chip.name} needs {chip.torus_dims} sizes, such as"
                f" {chip.name}:{example}."
            )
        if min(shape) < 1 or int(slices or 1) < 1:
            raise ValueError(f"topology={text!r}: sizes must be at least 1.")
        if not _is_slice(chip, shape):
            cubes = f", or multiples of 4, ascending, up to {chip.max_chips} chips"
            raise ValueError(
                f"topology={text!r}: {chip.name} has no slice of that shape; expected one of"
                f" {', '.join(_SHAPES[chip.torus_dims])}{cubes if len(shape) == 3 else ''}."
            )
        return cls(chip, shape, int(slices or 1))

    def __str__(self) -> str:
        slices = f"{self.num_slices}x" if self.num_slices > 1 else ""
        return f"{slices}{self.chip.name}:{self.slice_shape}"

    @property
    def slice_shape(self) -> str:
        """Shape of one slice, as in GKE's topology label."""
        return "x".join(map(str, self.shape))

    @property
    def chips_per_slice(self) -> int:
        """Chips of one slice."""
        return math.prod(self.shape)

    @property
    def num_chips(self) -> int:
        """Chips of all slices."""
        return self.num_slices * self.chips_per_slice

    @property
    def num_devices(self) -> int:
        """Devices of all slices, as JAX counts them."""
        return self.num_chips * self.chip.devices_per_chip

    @property
    def hosts_per_slice(self) -> int:
        """Virtual machines of one slice; one process runs on each."""
        return -(-self.chips_per_slice // self.chip.chips_per_host)

    @property
    def host(self) -> "Topology":
        """The chips of one host, by themselves."""
        shape = (2, 2, 1)[: len(self.shape)] if self.hosts_per_slice > 1 else self.shape
        return dataclasses.replace(self, shape=shape, num_slices=1)

    @property
    def accelerator_type(self) -> str:
        """Type of one slice, as Cloud TPU names it: v5litepod-16, v5p-128."""
        size = self.chips_per_slice * self.chip.cores_per_chip_in_type
        return f"{self.chip.accelerator_type}-{size}"

    def links(self, dims: int) -> float:
        """Links of one device that a collective over the first `dims` dims can use, per direction.

        A dim of full length is a ring, where both links carry; a shorter one is a line, where a
        ring algorithm gets the throughput of one.
        """
        largest = sorted(self.shape, reverse=True)[: max(dims, 1)]
        return float(sum(2 if size % self.chip.wrap == 0 else 1 for size in largest))


def _is_slice(chip: Chip, shape: tuple[int, ...]) -> bool:
    if "x".join(map(str, shape)) in _SHAPES[chip.torus_dims]:
        return True
    of_cubes = all(size % 4 == 0 for size in shape) and list(shape) == sorted(shape)
    return chip.torus_dims == 3 and of_cubes and math.prod(shape) <= chip.max_chips


def describe(topology: Topology) -> list[Any]:
    """The devices of a topology, to compile for; none of them need exist.

    Raises:
      ValueError: If libtpu is not installed, or the compiler knows no such topology.
    """
    # libtpu would otherwise ask the metadata server of a cloud machine for a minute.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", topology.accelerator_type)
    import importlib.util

    if importlib.util.find_spec("libtpu") is None:
        raise ValueError(
            "libtpu, the TPU compiler, is not installed; run"
            " `pip install 'sentidistill-jax[tpu]'` (a laptop will do, no TPU is needed)."
        )
    from jax.experimental import topologies

    options: dict[str, Any] = dict(topology.chip.options)
    if topology.num_slices > 1:
        options["num_slices"] = topology.num_slices
    if topology.chips_per_slice == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    name = f"{topology.chip.libtpu_name}:{topology.slice_shape}"
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
    except Exception as error:  # of the runtime's own type, which has no public name
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"the TPU compiler refuses topology {topology}: {reason}") from error
    return list(found.devices)
