"""Where every array lives: the mesh, the logical axis names, and the rules that join the two.

Modules name the axes of their arrays ("embed", "heads", ...). `MESH_AXES` alone says which mesh
axis splits which names, so another placement is another table and no model code changes.
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

# Mesh axis -> logical axes that it splits, from the outermost axis to the innermost, whose devices
# are nearest to one another. The first axis alone crosses from slice to slice.
MESH_AXES: dict[str, tuple[str, ...]] = {
    "data": ("batch",),
    "fsdp": ("batch", "embed"),
    "tensor": ("vocab", "heads", "kv_heads", "mlp"),
}
# Every logical axis; those that no mesh axis splits are whole on each device.
LOGICAL_AXES = (
    "batch", "seq", "vocab", "embed", "activation_embed", "heads", "kv_heads", "head_dim", "mlp",
    "layers", "rank",
)  # fmt: skip


def mesh_axes_of(axis: str) -> str | tuple[str, ...] | None:
    """Mesh axes that split a logical axis, as an entry of a `PartitionSpec`.

    Raises:
      KeyError: If there is no such logical axis.
    """
    if axis not in LOGICAL_AXES:
        raise KeyError(f"logical axis {axis!r} must be one of {list(LOGICAL_AXES)}.")
    names = tuple(name for name, split in MESH_AXES.items() if axis in split)
    return names if len(names) > 1 else next(iter(names), None)


def backend() -> str:
    """The platform that a program is traced for: cpu, gpu or tpu.

    That of the mesh in use, which is not the default one while a laptop plans for a TPU.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def make_mesh(shape: Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """Builds the mesh of `MESH_AXES`.

    Devices of several slices, which only the data-centre network joins, are laid out so that the
    first axis, `data`, alone crosses from slice to slice: gradients are summed over it once a step,
    while the other axes talk in every layer.

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
    # Splitting physical axes lets any shape onto any torus: 64 x 4 onto 16 x 16.
    if slices == 1:
        layout = mesh_utils.create_device_mesh(
            tuple(sizes.values()), devices, allow_split_physical_axes=True
        )
    else:
        outermost, *inner = sizes
        if sizes[outermost] % slices:
            raise ValueError(
                f"mesh={dict(shape)} has {outermost}={sizes[outermost]}, expected a multiple of the"
                f" {slices} slices, which only {outermost} may cross; try {outermost}=-1 with"
                f" {' and '.join(inner)} that divide the {len(devices) // slices} devices of a"
                " slice."
            )
        across = dict.fromkeys(sizes, 1) | {outermost: slices}
        within = sizes | {outermost: sizes[outermost] // slices}
        layout = mesh_utils.create_hybrid_device_mesh(
            tuple(within.values()),
            tuple(across.values()),
            devices,
            allow_split_physical_axes=True,
        )
    return Mesh(layout, tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))


def mesh_sizes(shape: Mapping[str, int], num_devices: int) -> dict[str, int]:
    """Size of every axis of `MESH_AXES`, in their order; see `make_mesh`."""
    unknown = set(shape) - set(MESH_AXES)
    if unknown:
        raise ValueError(f"mesh has unknown axes {sorted(unknown)}; expected {list(MESH_AXES)}.")
    sizes = {axis: int(shape.get(axis, 1)) for axis in MESH_AXES}
    left = [axis for axis, size in sizes.items() if size == -1]
    if len(left) > 1 or any(size == 0 or size < -1 for size in sizes.values()):
        raise ValueError(
            f"mesh={dict(shape)} must have positive sizes and at most one -1; try data=-1."
        )
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if left and num_devices % fixed == 0:
        sizes[left[0]] = num_devices // fixed
    if math.prod(sizes.values()) != num_devices:
        raise ValueError(
            f"mesh={dict(shape)} needs {fixed} devices (or a multiple of that with one -1), got"
            f" {num_devices}; try {_nearest(sizes, num_devices)}."
        )
    return sizes


def _nearest(sizes: Mapping[str, int], num_devices: int) -> str:
    """A shape that fits: from the innermost axis, the largest size not above the one asked for."""
    outermost, *inner = sizes
    left, fitting = num_devices, {outermost: -1}
    for axis in reversed(inner):
        most = min(max(sizes[axis], 1), left)
        fitting[axis] = max(n for n in range(1, most + 1) if left % n == 0)
        left //= fitting[axis]
    return ", ".join(f"{axis}={fitting[axis]}" for axis in sizes)


def data_parallel_degree(mesh: Mesh | AbstractMesh | Mapping[str, int]) -> int:
    """Number of parts that a batch is split into; batch sizes must be multiples of it.

    Args:
      mesh: A mesh, or the sizes of its axes by name.
    """
    sizes = mesh if isinstance(mesh, Mapping) else mesh.shape
    return math.prod(size for axis, size in sizes.items() if "batch" in MESH_AXES[axis])


def partition_spec(axes: Sequence[str | None]) -> PartitionSpec:
    """Mesh axes of an array whose logical axes are given (None: replicated)."""
    return PartitionSpec(*(mesh_axes_of(axis) if axis is not None else None for axis in axes))


def divisible_spec(
    axes: Sequence[str | None], shape: tuple[int, ...], mesh: Mesh | AbstractMesh
) -> PartitionSpec:
    """Mesh axes of an array of that shape.

    A dim that its mesh axes do not divide is left whole (3 kv heads on tensor=2), so a batch of one
    works on any mesh.
    """

    def keep(entry: Any, dim: int) -> Any:
        names = (entry,) if isinstance(entry, str) else tuple(entry or ())
        return entry if dim % math.prod(mesh.shape[name] for name in names) == 0 else None

    spec = tuple(partition_spec(axes))
    padded = spec + (None,) * (len(shape) - len(spec))
    return PartitionSpec(*(keep(entry, dim) for entry, dim in zip(padded, shape, strict=True)))


def partition_spec_of(array: jax.Array, axes: Sequence[str | None]) -> PartitionSpec:
    """Mesh axes of an array on the current mesh; see `divisible_spec`."""
    return divisible_spec(axes, array.shape, jax.sharding.get_abstract_mesh())


def constrain(array: jax.Array, axes: Sequence[str | None]) -> jax.Array:
    """States the placement of an activation; does nothing outside a mesh."""
    if jax.sharding.get_abstract_mesh().empty:
        return array
    return jax.lax.with_sharding_constraint(array, partition_spec_of(array, axes))


def axis_that_splits(name: str, dim: int) -> str | None:
    """The one mesh axis that a logical axis of this size is split over, None if it is whole."""
    mesh = jax.sharding.get_abstract_mesh()
    (axis,) = divisible_spec((name,), (dim,), mesh)
    return axis if axis is not None and mesh.shape[axis] > 1 else None


def state_shardings(state: Tree, mesh: Mesh) -> Tree:
    """A NamedSharding for every leaf of a tree, from the logical axes of its NNX variables.

    What is no variable, or has fewer dims than axes, as factored moments do, is replicated.
    """

    def sharded(leaf: Any) -> Any:
        if not isinstance(leaf, nnx.Variable):
            return replicated(mesh)
        value, axes = leaf.get_value(), leaf.get_metadata().get("axes", ())
        spec = divisible_spec(axes if len(axes) == value.ndim else (), value.shape, mesh)
        return leaf.replace(NamedSharding(mesh, spec))

    return jax.tree.map(sharded, state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def undivided(state: Any, sizes: Mapping[str, int]) -> list[str]:
    """A sentence for each logical axis of a state that its mesh axis fails to split.

    Args:
      state: NNX variables with logical axes; shapes will do.
      sizes: Devices along each mesh axis.

    Returns:
      Which dim it is, what does not divide it and what would; none where all are split.
    """
    dims = {
        (axis, dim)
        for leaf in jax.tree.leaves(state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
        if isinstance(leaf, nnx.Variable)
        for axis, dim in zip(leaf.get_metadata()["axes"], leaf.get_value().shape, strict=True)
    }
    found = []
    for axis, dim in sorted(dims):
        for name in (name for name, split in MESH_AXES.items() if axis in split):
            size = sizes[name]
            if dim % size == 0:
                continue
            fitting = max(n for n in range(1, size) if dim % n == 0)
            rounded = f" or student.vocabulary_size={-(-dim // size) * size}"
            found.append(
                f"mesh.{name}={size} does not divide {axis}={dim}, so every device holds all of it;"
                f" try mesh.{name}={fitting}{rounded if axis == 'vocab' else ''}."
            )
    return found


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Placement of a batch: rows over the data-parallel axes, everything else whole."""
    return NamedSharding(mesh, partition_spec(("batch",)))


def replicated(mesh: Mesh) -> NamedSharding:
    """Placement of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_part(mesh: Mesh) -> tuple[int, int]:
    """Which part of a batch this process reads, and how many parts there are.

    Processes whose devices hold the same rows, because `tensor` goes across them, read the same.

    Raises:
      ValueError: If the devices of two processes hold partly the same rows.
    """
    degree = data_parallel_degree(mesh)
    placed = batch_sharding(mesh).devices_indices_map((degree,))
    rows: dict[int, set[int]] = {}
    for device, (index,) in placed.items():
        rows.setdefault(device.process_index, set()).update(range(degree)[index])
    parts = sorted({tuple(sorted(held)) for held in rows.values()})
    if sum(map(len, parts)) != degree or len({len(part) for part in parts}) > 1:
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
