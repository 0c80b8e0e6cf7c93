"""What a compiled program moves through HBM, and the largest arrays it holds there."""

import dataclasses
import re
from collections.abc import Iterator

from sentidistill_jax.planner.hlo import Instruction, Program


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
    for name, count in program.scheduled():
        computation = program.computations[name]
        total += count * sum(_traffic(program, computation, i) for i in computation.values())
    return total


def largest_buffers(program: Program, limit: int = 5) -> tuple[Buffer, ...]:
    """The largest results in HBM of scheduled instructions, one for each shape and operator."""
    found: dict[tuple[str, str], Buffer] = {}
    for name, _ in program.scheduled():
        for instruction in program.computations[name].values():
            if instruction.is_free or len(instruction.arrays) != 1:
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
    opcode = instruction.opcode.removesuffix("-start")
    if instruction.is_free or instruction.is_collective:
        return 0.0  # what collectives move is bounded by the network
    if instruction.called and opcode in ("fusion", "async"):
        return _fusion_traffic(program, computation, instruction)
    operands = [computation.get(name) for name in instruction.operands]
    written = float(sum(array.num_bytes for array in instruction.results if array.in_hbm))
    if opcode in ("slice", "dynamic-slice"):
        whole = operands[0] is None or any(array.in_hbm for array in operands[0].arrays)
        return written + whole * sum(array.num_bytes for array in instruction.results)
    if opcode == "dynamic-update-slice":
        return 2 * _bytes(operands[1])
    return written + sum(map(_bytes, operands))


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
            if user.opcode in ("dynamic-slice", "slice"):
                read += _dense(user)
            elif user.opcode == "dynamic-update-slice" and user.operands[0] == parameter.name:
                continue  # updated in place
            elif user.opcode != "tuple" and not user.is_collective:
                read = whole
                break
        total += min(read, whole)
    root = program.root(fusion.called[0])
    roots = [fused[name] for name in root.operands] if root.opcode == "tuple" else [root]
    for written, array in zip(roots, fusion.results, strict=False):
        while written.opcode == "bitcast" and written.operands[0] in fused:
            written = fused[written.operands[0]]
        if not array.in_hbm or written.opcode == "parameter" or written.is_collective:
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
