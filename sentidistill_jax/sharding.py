"""Where every array lives: the mesh, the logical axis names, and the rules that join the two.

Modules name the axes of their arrays ("embed", "heads", ...). `AXIS_RULES` alone says which mesh
axis each name is split over, so another placement is another table and no model code changes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

Tree = TypeVar("Tree")

MESH_AXES = ("data", "fsdp", "tensor")

# Logical axis -> mesh axes. Parameters are split over fsdp x tensor, batches over data x fsdp.
AXIS_RULES: Mapping[str, tuple[str, ...] | str | None] = {
    "batch": ("data", "fsdp"),
    "seq": None,
    "vocab": "tensor",
    "embed": "fsdp",
    "activation_embed": None,
    "heads": "tensor",
    "kv_heads": "tensor",
    "head_dim": None,
    "mlp": "tensor",
    "layers": None,
    "rank": None,
}


def backend() -> str:
    """The platform that a program is traced for: cpu, gpu or tpu.

    That of the mesh in use, which is not the default one while a laptop plans for a TPU.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def make_mesh(shape: Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """Builds the `data, fsdp, tensor` mesh.

    Devices of several slices, which only the data-centre network joins, are laid out so that `data`
    alone crosses from slice to slice: gradients are summed over it once a step, while `fsdp` and
    `tensor` talk in every layer.

    Args:
      shape: Size of each mesh axis; one of them may be -1, meaning "the devices that are left".
        Axes that are not named have size 1.
      devices: The devices to use; all of them by default.

    Returns:
      A mesh with Auto axis types, so that the compiler completes what the rules do not say.

    Raises:
      ValueError: If an axis is unknown, the sizes do not multiply to the number of devices, or
        `data` is no multiple of the number of slices.
    """
    devices = list(devices if devices is not None else jax.devices())
    sizes = mesh_sizes(shape, len(devices))
    slices = len({getattr(device, "slice_index", None) for device in devices})
    if slices == 1:
        # Splitting physical axes lets any shape onto any torus: 64 x 4 onto 16 x 16.
        layout = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    else:
        data, *within = sizes
        if data % slices:
            raise ValueError(
                f"mesh={dict(shape)} has data={data}, expected a multiple of the {slices} slices,"
                " which only data may cross; try data=-1 with fsdp and tensor that divide the"
                f" {len(devices) // slices} devices of a slice."
            )
        layout = mesh_utils.create_hybrid_device_mesh(
            (data // slices, *within), (slices, 1, 1), devices, allow_split_physical_axes=True
        )
    return Mesh(layout, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def mesh_sizes(shape: Mapping[str, int], num_devices: int) -> tuple[int, int, int]:
    """Sizes of `data, fsdp, tensor` over so many devices; see `make_mesh`."""
    unknown = set(shape) - set(MESH_AXES)
    if unknown:
        raise ValueError(f"mesh has unknown axes {sorted(unknown)}; expected {list(MESH_AXES)}.")
    sizes = [int(shape.get(axis, 1)) for axis in MESH_AXES]
    if sizes.count(-1) > 1 or any(size == 0 or size < -1 for size in sizes):
        raise ValueError(
            f"mesh={dict(shape)} must have positive sizes and at most one -1; try data=-1."
        )
    fixed = math.prod(size for size in sizes if size != -1)
    if -1 in sizes and num_devices % fixed == 0:
        sizes[sizes.index(-1)] = num_devices // fixed
    if math.prod(sizes) != num_devices:
        raise ValueError(
            f"mesh={dict(shape)} needs {fixed} devices (or a multiple of that with one -1), got"
            f" {num_devices}; try {_nearest(sizes, num_devices)}."
        )
    data, fsdp, tensor = sizes
    return data, fsdp, tensor


def _nearest(sizes: Sequence[int], num_devices: int) -> str:
    """A shape that fits: of tensor, then fsdp, the largest size not above the one asked for."""
    left, fitting = num_devices, {}
    for axis in ("tensor", "fsdp"):
        asked = sizes[MESH_AXES.index(axis)]
        fitting[axis] = max(n for n in range(1, max(asked, 1) + 1) if left % n == 0)
        left //= fitting[axis]
    return f"data=-1, fsdp={fitting['fsdp']}, tensor={fitting['tensor']}"


def partition_spec(axes: Sequence[str | None]) -> PartitionSpec:
    """Mesh axes of an array whose logical axes are given (None: replicated)."""
    return PartitionSpec(*(AXIS_RULES[axis] if axis is not None else None for axis in axes))


def _divisible(
    spec: PartitionSpec, shape: tuple[int, ...], mesh: Mesh | AbstractMesh
) -> PartitionSpec:
    """Drops mesh axes that do not divide their dim (3 kv heads on tensor=2: replicate)."""

    def keep(axes: Any, dim: int) -> Any:
        names = (axes,) if isinstance(axes, str) else tuple(axes or ())
        return axes if dim % math.prod(mesh.shape[name] for name in names) == 0 else None

    padded = tuple(spec) + (None,) * (len(shape) - len(spec))
    return PartitionSpec(*(keep(axes, dim) for axes, dim in zip(padded, shape, strict=True)))


def divisible_spec(
    axes: Sequence[str | None], shape: tuple[int, ...], mesh: Mesh | AbstractMesh
) -> PartitionSpec:
    """Mesh axes of an array of that shape; a dim that they do not divide is left whole."""
    return _divisible(partition_spec(axes), shape, mesh)


def partition_spec_of(array: jax.Array, axes: Sequence[str | None]) -> PartitionSpec:
    """Mesh axes of an array on the current mesh; dims that they do not divide are left whole."""
    return divisible_spec(axes, array.shape, jax.sharding.get_abstract_mesh())


def constrain(array: jax.Array, axes: Sequence[str | None]) -> jax.Array:
    """States the placement of an activation; does nothing outside a mesh.

    A dim that its mesh axes do not divide is left whole, so a batch of one works on any mesh.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return array
    return jax.lax.with_sharding_constraint(
        array, _divisible(partition_spec(axes), array.shape, mesh)
    )


def axis_that_splits(name: str, dim: int) -> str | None:
    """The one mesh axis that a logical axis of this size is split over, None if it is whole."""
    mesh = jax.sharding.get_abstract_mesh()
    (axis,) = _divisible(partition_spec((name,)), (dim,), mesh)
    return axis if axis is not None and mesh.shape[axis] > 1 else None


def state_shardings(state: Tree, mesh: Mesh) -> Tree:
    """A NamedSharding for every leaf of an NNX state, from its variables' logical axes."""

    def of(variable: Any) -> Any:
        axes = variable.get_metadata().get("axes", ())
        spec = _divisible(partition_spec(axes), variable.get_value().shape, mesh)
        return variable.replace(NamedSharding(mesh, spec))

    return jax.tree.map(of, state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over data x fsdp, everything else whole."""
    return NamedSharding(mesh, partition_spec(("batch",)))


def batch_part(mesh: Mesh) -> tuple[int, int]:
    """Which part of a batch this process reads, and how many parts there are.

    Processes whose devices hold the same rows, because `tensor` goes across them, read the same.

    Raises:
      ValueError: If the devices of two processes hold partly the same rows.
    """
    ways = batch_rows(mesh)
    placed = batch_sharding(mesh).devices_indices_map((ways,))
    rows: dict[int, set[int]] = {}
    for device, (index,) in placed.items():
        rows.setdefault(device.process_index, set()).update(range(ways)[index])
    parts = sorted({tuple(sorted(held)) for held in rows.values()})
    if sum(map(len, parts)) != ways or len({len(part) for part in parts}) > 1:
        raise ValueError(
            f"mesh={dict(mesh.shape)} gives {len(rows)} processes overlapping parts of a batch;"
            " choose tensor so that it divides the devices of a process, or is a multiple of them."
        )
    return parts.index(tuple(sorted(rows[jax.process_index()]))), len(parts)


def to_host(array: jax.Array) -> np.ndarray:
    """The whole array on every process; all of them must call it."""
    if array.is_fully_addressable:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def batch_rows(mesh: Mesh | AbstractMesh) -> int:
    """How many ways the batch is split; batch sizes must be multiples of it."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())
