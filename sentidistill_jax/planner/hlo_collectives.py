"""What a compiled program sends: collectives, their bytes, and what goes on meanwhile."""

import collections
import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from sentidistill_jax.planner.hlo import CONTROL, Instruction, Program

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
    asynchronous: bool  # whether other work stands between their start and their end
    count: float
    sent_bytes: float  # by one device
    paired_bytes: float = 0.0  # of these, sent in both directions of a ring at once


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


@dataclasses.dataclass
class _Transfer:
    """One collective of a schedule: places of the instructions that begin and end it."""

    instruction: Instruction
    computation: str
    begin: int
    end: int
    asynchronous: bool = False
    paired: bool = False

    @property
    def kind(self) -> str:
        if self.computation.startswith("all-reduce-scatter"):
            return "reduce-scatter"  # written as a sum of which each device keeps its part
        return self.instruction.opcode.removesuffix("-start")

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Source and target of a permutation, in order."""
        return tuple(sorted(re.findall(r"\{(\d+),(\d+)\}", self.instruction.attributes)))

    def is_opposite(self, other: "_Transfer") -> bool:
        """Whether two permutations send along the same ring, either way, at the same time."""
        at_once = self.begin < other.end and other.begin < self.end
        reverse = tuple(sorted((target, source) for source, target in other.pairs))
        return at_once and self.pairs == reverse != other.pairs


def collectives(program: Program, devices: Sequence[Any]) -> list[Collective]:
    """Everything that one execution sends, largest first.

    Where the compiler splits a collective between slices, the part over DCN is a transfer to the
    host with the payload of one device.

    Args:
      program: What one device runs.
      devices: In the program's order, with `coords` and perhaps `slice_index`.
    """
    totals: dict[tuple[Any, ...], list[float]] = collections.defaultdict(lambda: [0, 0, 0])
    for name, count in program.scheduled():
        for transfer in _transfers(program, name):
            around = program.computations[transfer.computation]
            described, sent = _describe(transfer, around, devices)
            if described is not None:
                total = totals[*described, transfer.asynchronous]
                total[0] += count
                total[1] += count * sent
                total[2] += count * sent * transfer.paired
    result = [Collective(*key, *total) for key, total in totals.items()]
    return sorted(result, key=lambda collective: -collective.sent_bytes)


def _transfers(program: Program, name: str) -> list[_Transfer]:
    """The collectives that a computation schedules.

    One ends where what began it is awaited. Others are spread over several fusions under one
    channel: the first begins it, those between carry it on beside their work, the last ends it.
    """
    named = program.computations[name]
    schedule = list(named.values())
    found: dict[tuple[str, str], _Transfer] = {}
    for place, scheduled in enumerate(schedule):
        ends = scheduled.opcode.endswith("-done")
        awaited = named.get(scheduled.operands[0]) if ends else None
        if awaited:
            # What comes from another slice arrives by a transfer of its own.
            met = _value("rendezvous", awaited)
            for transfer in found.values():
                begun = transfer.instruction
                if begun is awaited or (met and met == _value("rendezvous", begun)):
                    transfer.end = place
        for computation, instruction in program.within(name, scheduled):
            kind = instruction.opcode.removesuffix("-start")
            if kind in _KINDS or (kind == "send" and "megascale" in instruction.attributes):
                made = _Transfer(instruction, computation, place, place)
                # Only what is spread has a channel of its own.
                spread = computation != name and made.kind == kind
                channel = _value("channel_id", instruction) if spread else ""
                found.setdefault((kind, channel or instruction.name), made).end = place
    working = [_works(program, name, scheduled) for scheduled in schedule]
    transfers = list(found.values())
    for transfer in transfers:
        transfer.asynchronous = any(working[transfer.begin + 1 : transfer.end])
    permutes = [transfer for transfer in transfers if transfer.kind == "collective-permute"]
    for index, one in enumerate(permutes):
        for other in permutes[index + 1 :]:
            if not (one.paired or other.paired) and one.is_opposite(other):
                one.paired = other.paired = True
    return transfers


def _value(attribute: str, instruction: Instruction) -> str:
    """The value of the attribute whose name ends so; empty where there is none."""
    found = re.search(rf'{attribute}="?([^",}}]+)', instruction.attributes)
    return found[1] if found else ""


def _works(program: Program, name: str, scheduled: Instruction) -> bool:
    """Whether an instruction computes or moves arrays, by itself or in what it calls."""
    if scheduled.opcode in CONTROL:
        return True
    return any(
        any(array.shape for array in instruction.arrays)
        and instruction.opcode != "fusion"
        and not instruction.is_free
        and not instruction.is_collective
        for _, instruction in program.within(name, scheduled)
    )


def _describe(
    transfer: _Transfer, around: dict[str, Instruction], devices: Sequence[Any]
) -> tuple[tuple[str, str, int, int] | None, float]:
    """(kind, network, group size, torus dims) and bytes sent by one device per execution."""
    kind, instruction = transfer.kind, transfer.instruction
    attributes = instruction.attributes
    if kind == "send":
        over = (_value("megascale_transfer_type", instruction) or "send").lower().replace("_", "-")
        slices = len({getattr(device, "slice_index", 0) for device in devices})
        operand = around.get(instruction.operands[0])
        payload = sum(array.num_bytes for array in (operand or instruction).arrays)
        if over == "all-gather":
            payload *= slices
        return (over, "DCN", slices, 0), ring_bytes(over, payload, slices)
    if kind == "collective-permute":
        moved = [pair for pair in transfer.pairs if pair[0] != pair[1]]
        if not moved:
            return None, 0.0
        group = [int(n) for n in moved[0]]
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
    size = float(sum(array.num_bytes for array in instruction.results))
    return size * group_size if instruction.opcode.startswith("reduce-scatter") else size
