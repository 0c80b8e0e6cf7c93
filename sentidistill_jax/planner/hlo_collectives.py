"""What a compiled program sends: every collective with its bytes, over ICI and over DCN."""

import collections
import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from sentidistill_jax.planner.hlo import Instruction, Program

_KINDS = (
    "all-gather", "all-reduce", "reduce-scatter", "all-to-all", "ragged-all-to-all",
    "collective-permute", "collective-broadcast",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of one kind over groups of one size, per execution of the program."""

    kind: str
    network: str  # ICI or DCN
    group_size: int  # devices that take part, for DCN: slices
    torus_dims: int  # dims of the slice over which a group extends
    count: float
    sent_bytes: float  # by one device


def ring_bytes(kind: str, payload: float, group_size: int) -> float:
    """Bytes that one device sends in a ring algorithm.

    Args:
      kind: Of collective.
      payload: Bytes of the whole array on a device: the result of a gather, the operand of a
        reduction, the operand of a permutation.
      group_size: Devices that take part.

    Source: Thakur, Rabenseifner, Gropp 2005, "Optimization of Collective Communication Operations".
    """
    if kind in ("collective-permute", "collective-broadcast"):
        return payload
    share = (group_size - 1) / group_size
    return payload * share * (2 if kind == "all-reduce" else 1)


def replica_group(attributes: str, num_devices: int) -> list[int]:
    """Positions of the first group's devices in the program's order of devices.

    Raises:
      ValueError: If the groups are written in none of the three known ways.
    """
    text = attributes.partition("replica_groups=")[2]
    explicit = re.match(r"\{\{([\d,]*)\}", text)
    if explicit:
        return [int(n) for n in explicit[1].split(",") if n]
    if re.match(r"\{\}", text):
        return list(range(num_devices))
    iota = re.match(r"\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
    if iota:
        ids = np.arange(num_devices).reshape([int(n) for n in iota[3].split(",")])
        if iota[4]:
            ids = ids.transpose([int(n) for n in iota[4].split(",")])
        return ids.reshape(int(iota[1]), int(iota[2]))[0].tolist()
    mesh = re.match(
        r"mesh\[([^\]]*)\]\s*(?:,?\s*device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\)\s*)?\{([^}]*)\}",
        text,
    )
    if mesh:
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh[1])}
        ids = np.arange(num_devices)
        if mesh[2]:
            ids = ids.reshape([int(n) for n in mesh[2].split(",")])
            ids = ids.transpose([int(n) for n in mesh[3].split(",")]) if mesh[3] else ids
        ids = ids.reshape(list(sizes.values()))
        grouped = {}
        for name, before, size in re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", mesh[4]):
            grouped[name] = (int(before or 1), int(size or sizes[name]))
        index: list[Any] = []
        for axis, (name, size) in enumerate(sizes.items()):
            before, part = grouped.get(name, (1, 1))
            after = size // (before * part)
            # A part of an axis: devices that differ in its middle digit alone.
            index.append(np.arange(part) * after if name in grouped else np.zeros(1, int))
            del axis
        return ids[np.ix_(*index)].reshape(-1).tolist()
    raise ValueError(f"replica groups {text[:80]!r} are written in no known way.")


def collectives(program: Program, devices: Sequence[Any]) -> list[Collective]:
    """Everything that one execution sends, largest first.

    An asynchronous collective is spread over several fusions under one channel; it counts once in
    the computation that schedules them. Where the compiler splits a collective between slices, the
    part over DCN is a transfer to the host with the payload of one device.

    Args:
      program: Of one device.
      devices: In the program's order, with `coords` and perhaps `slice_index`.
    """
    found: dict[tuple[str, str, str], tuple[Instruction, str]] = {}
    runs: dict[tuple[str, str, str], float] = collections.defaultdict(float)
    times: dict[str, float] = collections.defaultdict(float)
    seen_in: dict[str, set[tuple[str, str, str]]] = collections.defaultdict(set)
    for computation, scheduled_by, count in program.runs():
        if computation == scheduled_by:
            times[scheduled_by] += count
        for instruction in program.computations[computation].values():
            kind = instruction.opcode.removesuffix("-start")
            if kind not in _KINDS and not (
                kind == "send" and "megascale" in instruction.attributes
            ):
                continue
            channel = re.search(r"channel_id=(\d+)", instruction.attributes)
            key = (scheduled_by, kind, channel[1] if channel else instruction.name)
            found.setdefault(key, (instruction, computation))
            seen_in[scheduled_by].add(key)
    for scheduled_by, keys in seen_in.items():
        for key in keys:
            runs[key] = times[scheduled_by]

    totals: dict[tuple[str, str, int, int], list[float]] = collections.defaultdict(lambda: [0, 0])
    for key, (instruction, computation) in found.items():
        described, sent = _describe(instruction, program.computations[computation], devices)
        if described is None:
            continue
        totals[described][0] += runs[key]
        totals[described][1] += runs[key] * sent
    result = [Collective(*key, count, sent) for key, (count, sent) in totals.items()]
    return sorted(result, key=lambda collective: -collective.sent_bytes)


def _describe(
    instruction: Instruction, around: dict[str, Instruction], devices: Sequence[Any]
) -> tuple[tuple[str, str, int, int] | None, float]:
    """(kind, network, group size, torus dims) and bytes sent by one device per execution."""
    kind = instruction.opcode.removesuffix("-start")
    attributes = instruction.attributes
    if kind == "send":
        transfer = re.search(r'megascale_transfer_type="(\w+)"', attributes)
        over = (transfer[1] if transfer else "send").lower().replace("_", "-")
        slices = len({getattr(device, "slice_index", 0) for device in devices})
        operand = around.get(instruction.operands[0])
        payload = sum(array.num_bytes for array in (operand or instruction).arrays)
        if over == "all-gather":
            payload *= slices
        return (over, "DCN", slices, 0), ring_bytes(over, payload, slices)
    if kind == "collective-permute":
        pairs = re.findall(r"\{(\d+),(\d+)\}", attributes)
        group = [int(n) for n in pairs[0]] if pairs else [0]
        if all(source == target for source, target in pairs):
            return None, 0.0
        size = 2
    else:
        group = replica_group(attributes, len(devices))
        size = len(group)
    if size < 2:
        return None, 0.0
    slices = {getattr(devices[n], "slice_index", 0) for n in group}
    coordinates = np.array([devices[n].coords for n in group])
    torus_dims = int(np.sum(np.ptp(coordinates, axis=0) > 0))
    network = "DCN" if len(slices) > 1 else "ICI"
    return (kind, network, size, torus_dims), ring_bytes(kind, _payload(instruction, size), size)


def _payload(instruction: Instruction, group_size: int) -> float:
    arrays = instruction.arrays
    if instruction.opcode.endswith("-start") and instruction.opcode != "all-reduce-start":
        # (operands, results, context): results are the second half of what is no context.
        arrays = tuple(array for array in arrays if array.shape)
        arrays = arrays[len(arrays) // 2 :]
    size = float(sum(array.num_bytes for array in arrays))
    return size * group_size if instruction.opcode.startswith("reduce-scatter") else size
