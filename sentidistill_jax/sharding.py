"""Where every array lives: the mesh, the logical axis names, and the rules that join the two.

Modules name the axes of their arrays ("embed", "heads", ...). `AXIS_RULES` alone says which mesh
axis each name is split over, so another placement is another table and no model code changes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
from flax import nnx
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


def make_mesh(shape: Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """Builds the `data, fsdp, tensor` mesh.

    Args:
      shape: Size of each mesh axis; one of them may be -1, meaning "the devices that are left".
        Axes that are not named have size 1.
      devices: The devices to use; all of them by default.

    Returns:
      A mesh with Auto axis types, so that the compiler completes what the rules do not say.

    Raises:
      ValueError: If an axis is unknown or the sizes do not multiply to the number of devices.
    """
    unknown = set(shape) - set(MESH_AXES)
    if unknown:
        raise ValueError(f"mesh has unknown axes {sorted(unknown)}; expected {list(MESH_AXES)}.")
    devices = list(devices if devices is not None else jax.devices())
    sizes = [int(shape.get(axis, 1)) for axis in MESH_AXES]
    fixed = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) > 1 or any(size == 0 or size < -1 for size in sizes):
        raise ValueError(
            f"mesh={dict(shape)} must have positive sizes and at most one -1; try data=-1."
        )
    if -1 in sizes and len(devices) % fixed == 0:
        sizes[sizes.index(-1)] = len(devices) // fixed
    if math.prod(sizes) != len(devices):
        raise ValueError(
            f"mesh={dict(shape)} needs {fixed} devices (or a multiple of that with one -1), got"
            f" {len(devices)}; try data=-1 with fsdp and tensor sizes that divide {len(devices)}."
        )
    return jax.make_mesh(
        tuple(sizes), MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES), devices=devices
    )


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


def batch_rows(mesh: Mesh | AbstractMesh) -> int:
    """How many ways the batch is split; batch sizes must be multiples of it."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())
