"""What a compiled program moves: bytes through HBM, and bytes sent over ICI and DCN."""

import collections
import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sentidistill_jax.planner.hlo import Instruction, Program

# Give names to what is there already, or wait for what was counted when it started.
_FREE = {
    "parameter", "tuple", "get-tuple-element", "bitcast", "constant", "while", "conditional",
    "call", "after-all", "partition-id", "replica-id", "opt-barrier", "iota", "broadcast",
    "send", "recv", "send-done", "recv-done", "copy-done", "all-gather-done", "all-reduce-done",
    "collective-permute-done", "async-done", "async-update",
}  # fmt: skip
_COLLECTIVE = re.compile(r"^(all-|reduce-scatter|collective-|ragged-)")


@dataclasses.dataclass(frozen=True)
class Buffer:
    """One temporary array on one device."""

    shape: str
    num_bytes: int
    operator: str  # where in the source it comes from


def hbm_traffic(program: Program) -> float:
    """Bytes that one device reads and writes in HBM per execution, an upper estimate.

    Every instruction that is scheduled reads its operands and writes its result once; inside a
    fusion nothing leaves the chip. Slices are read and updated in part. What the layout keeps
    in on-chip memory is free.
    """
    total = 0.0
    for name, scheduled_by, count in program.runs():
        if name == scheduled_by:
            computation = program.computations[name]
            total += count * sum(_traffic(program, computation, i) for i in computation.values())
    return total


def largest_buffers(program: Program, limit: int = 5) -> tuple[Buffer, ...]:
    """The largest results in HBM of scheduled instructions, one for each shape and operator."""
    found: dict[tuple[str, str], Buffer] = {}
    for name, scheduled_by, _ in program.runs():
        if name != scheduled_by:
            continue
        for instruction in program.computations[name].values():
            if instruction.opcode in _FREE or len(instruction.arrays) != 1:
                continue
            (array,) = instruction.arrays
            operator = re.search(r'op_name="([^"]*)"', instruction.attributes)
            if array.in_hbm:
                shape = f"{array.dtype}[{','.join(map(str, array.shape))}]"
                buffer = Buffer(shape, array.num_bytes, operator[1] if operator else "")
                found.setdefault((buffer.shape, buffer.operator), buffer)
    return tuple(sorted(found.values(), key=lambda buffer: -buffer.num_bytes)[:limit])


def _bytes(instruction: Instruction | None) -> float:
    if instruction is None:
        return 0.0
    return float(sum(array.num_bytes for array in instruction.arrays if array.in_hbm))


def _traffic(
    program: Program, computation: dict[str, Instruction], instruction: Instruction
) -> float:
    opcode = instruction.opcode
    if opcode in _FREE or _COLLECTIVE.match(opcode):
        return 0.0  # what collectives move is bounded by the network
    if opcode == "fusion":
        return _fusion_traffic(program, computation, instruction)
    operands = [computation.get(name) for name in instruction.operands]
    if opcode == "dynamic-slice":
        return 2 * _bytes(instruction)
    if opcode == "dynamic-update-slice":
        return 2 * _bytes(operands[1])
    if opcode == "copy-start":
        # Its result names destination and source.
        return float(sum(array.num_bytes for array in instruction.arrays[:2] if array.in_hbm))
    return _bytes(instruction) + sum(map(_bytes, operands))


def _fusion_traffic(
    program: Program, computation: dict[str, Instruction], fusion: Instruction
) -> float:
    fused = program.computations.get(fusion.called[0]) if fusion.called else None
    if not fused:
        return _bytes(fusion)
    users: dict[str, list[Instruction]] = {}
    for inner in fused.values():
        for operand in inner.operands:
            users.setdefault(operand, []).append(inner)
    total = 0.0
    parameters = sorted(
        (i for i in fused.values() if i.opcode == "parameter"), key=lambda i: int(i.arguments)
    )
    for parameter, operand in zip(parameters, fusion.operands, strict=False):
        whole = _bytes(computation.get(operand))
        if not whole:
            continue
        read = 0.0
        for user in _beyond_bitcasts(parameter, users):
            if user.opcode == "dynamic-slice":
                read += _dense(user)
            elif user.opcode == "dynamic-update-slice" and user.operands[0] == parameter.name:
                continue  # updated in place
            elif user.opcode != "tuple" and not _COLLECTIVE.match(user.opcode):
                read = whole
                break
        total += min(read, whole)
    root = program.root(fusion.called[0])
    roots = [fused[name] for name in root.operands] if root.opcode == "tuple" else [root]
    for written, array in zip(roots, fusion.arrays, strict=False):
        while written.opcode == "bitcast" and written.operands[0] in fused:
            written = fused[written.operands[0]]
        if not array.in_hbm or written.opcode == "parameter" or _COLLECTIVE.match(written.opcode):
            continue
        if written.opcode == "dynamic-update-slice":
            total += _dense(fused[written.operands[1]])
        elif written.opcode not in ("get-tuple-element", "custom-call"):
            total += array.num_bytes
    return total


def _dense(instruction: Instruction) -> float:
    return float(sum(array.num_bytes for array in instruction.arrays))


def _beyond_bitcasts(
    instruction: Instruction, users: dict[str, list[Instruction]]
) -> Iterator[Instruction]:
    for user in users.get(instruction.name, []):
        if user.opcode == "bitcast":
            yield from _beyond_bitcasts(user, users)
        else:
            yield user


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
      kind: Kind of collective.
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
        for name, size in sizes.items():
            before, part = grouped.get(name, (1, 1))
            after = size // (before * part)
            # A part of an axis: devices that differ in its middle digit alone.
            index.append(np.arange(part) * after if name in grouped else np.zeros(1, int))
        return ids[np.ix_(*index)].reshape(-1).tolist()
    raise ValueError(f"replica groups {text[:80]!r} are written in no known way.")


def collectives(program: Program, devices: Sequence[Any]) -> list[Collective]:
    """Everything that one execution sends, largest first.

    An asynchronous collective is spread over several fusions under one channel; it counts once in
    the computation that schedules them. Where the compiler splits a collective between slices, the
    part over DCN is a transfer to the host with the payload of one device.

    Args:
      program: What one device runs.
      devices: In the program's order, with `coords` and perhaps `slice_index`.
    """
    found: dict[tuple[str, str, str], tuple[Instruction, str]] = {}
    runs: dict[str, float] = collections.defaultdict(float)
    for computation, scheduled_by, count in program.runs():
        if computation == scheduled_by:
            runs[scheduled_by] += count
        for instruction in program.computations[computation].values():
            kind = instruction.opcode.removesuffix("-start")
            over_dcn = kind == "send" and "megascale" in instruction.attributes
            if kind in _KINDS or over_dcn:
                channel = re.search(r"channel_id=(\d+)", instruction.attributes)
                key = (scheduled_by, kind, channel[1] if channel else instruction.name)
                found.setdefault(key, (instruction, computation))

    totals: dict[tuple[str, str, int, int], list[float]] = collections.defaultdict(lambda: [0, 0])
    for (scheduled_by, _, _), (instruction, computation) in found.items():
        described, sent = _describe(instruction, program.computations[computation], devices)
        if described is not None:
            totals[described][0] += runs[scheduled_by]
            totals[described][1] += runs[scheduled_by] * sent
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
