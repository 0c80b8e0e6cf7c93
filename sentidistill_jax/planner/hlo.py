"""Reads the text of a compiled program: computations, and how often each of them runs."""

import collections
import dataclasses
import functools
import re
from collections.abc import Iterator

_BYTES = {
    "pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2,
    "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8, "c64": 8, "c128": 16,
}  # fmt: skip
_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,]*)\](?:\{([^}]*)\})?")
_CALLED = re.compile(r"\b(?:calls|body|to_apply|called_computations)=\{?%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_END = re.compile(r"^\}(?!\})")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")


@dataclasses.dataclass(frozen=True)
class ArrayType:
    """One array of an instruction's result."""

    dtype: str
    shape: tuple[int, ...]
    layout: str

    @property
    def num_bytes(self) -> int:
        """Bytes of the array, without the padding of its layout."""
        size = float(_BYTES.get(self.dtype, 1))
        for dim in self.shape:
            size *= dim
        return int(size)

    @property
    def in_hbm(self) -> bool:
        """Whether it lies in HBM: the layout marks other memory spaces, S(1) being on the chip."""
        return not re.search(r"S\([1-9]", self.layout)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction, which is one line of a computation."""

    name: str
    result: str  # its type as text
    opcode: str
    arguments: str  # between its parentheses: operands, or the value of a constant
    attributes: str
    is_root: bool

    @functools.cached_property
    def operands(self) -> tuple[str, ...]:
        """Names of the instructions whose results it takes."""
        return tuple(re.findall(r"%([\w.\-]+)", self.arguments))

    @functools.cached_property
    def arrays(self) -> tuple[ArrayType, ...]:
        """The arrays of the result, in order."""
        return tuple(
            ArrayType(dtype, tuple(int(n) for n in dims.split(",") if n), layout or "")
            for dtype, dims, layout in _ARRAY.findall(self.result)
            if dtype != "token"
        )

    @property
    def called(self) -> list[str]:
        """Computations that it runs; not the condition of a loop."""
        names = [] if self.opcode in _REDUCERS else _CALLED.findall(self.attributes)
        branches = _BRANCHES.search(self.attributes)
        if branches:
            names += [name.strip(" %") for name in branches[1].split(",")]
        return names


# Their computation works on scalars and is none of interest.
_REDUCERS = {
    "all-reduce", "all-reduce-start", "reduce-scatter", "reduce", "reduce-window", "scatter",
    "select-and-scatter", "sort", "map",
}  # fmt: skip


def _balanced(text: str, start: int) -> int:
    """Index after the parenthesis that closes the one at `start`."""
    depth = 0
    for index in range(start, len(text)):
        depth += (text[index] == "(") - (text[index] == ")")
        if not depth:
            return index + 1
    return len(text)


def _parse(line: str) -> Instruction | None:
    head, separator, rest = line.strip().partition(" = ")
    if not separator or not rest:
        return None
    is_root = head.startswith("ROOT ")
    end = _balanced(rest, 0) if rest[0] == "(" else rest.find(" ")
    result, rest = rest[:end], rest[end:].lstrip()
    opening = rest.find("(")
    if opening < 1 or not re.fullmatch(r"[a-z][\w\-]*", rest[:opening]):
        return None
    closing = _balanced(rest, opening)
    return Instruction(
        name=head.removeprefix("ROOT ").lstrip("%"),
        result=result,
        opcode=rest[:opening],
        arguments=rest[opening + 1 : closing - 1],
        attributes=rest[closing:],
        is_root=is_root,
    )


class Program:
    """A compiled module.

    Args:
      text: What `compiled.as_text()` gives.

    Attributes:
      computations: Name -> instructions by name, in order.
      entry: Name of the computation where it starts.
      unknown_trip_counts: Loops whose number of rounds could not be read; counted as one round.
    """

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        self.unknown_trip_counts = 0
        current: dict[str, Instruction] | None = None
        for line in text.splitlines():
            if current is None:
                header = _HEADER.match(line)
                if header:
                    current = self.computations.setdefault(header[2], {})
                    self.entry = header[2] if header[1] else self.entry
            elif _END.match(line):
                current = None
            elif line.startswith(" "):  # what a kernel says of itself goes on in lines of its own
                instruction = _parse(line)
                if instruction is not None:
                    current[instruction.name] = instruction
        if not self.entry:
            raise ValueError("the text holds no ENTRY computation; expected that of a program.")

    def root(self, computation: str) -> Instruction:
        """The instruction whose result a computation returns."""
        return next(i for i in self.computations[computation].values() if i.is_root)

    def runs(self) -> Iterator[tuple[str, str, float]]:
        """Yields (computation, the one that schedules it, runs per execution of the program).

        Fused computations are scheduled by the one that holds the fusion, others by themselves.
        A computation that is called from several places is yielded once for each.
        """
        waiting = collections.deque([(self.entry, self.entry, 1.0)])
        while waiting:
            name, scheduled_by, count = waiting.popleft()
            if name not in self.computations:
                continue
            yield name, scheduled_by, count
            for instruction in self.computations[name].values():
                for called in instruction.called:
                    if instruction.opcode == "while":
                        rounds = self._trip_count(name, instruction)
                        waiting.append((called, called, count * rounds))
                    elif instruction.opcode in ("call", "conditional"):
                        waiting.append((called, called, count))
                    else:
                        waiting.append((called, scheduled_by, count))

    def _trip_count(self, computation: str, loop: Instruction) -> float:
        """Rounds of a loop that counts up to a constant, which is all that JAX's scan makes."""
        known = re.search(r'known_trip_count"?:\{"n":"(\d+)"', loop.attributes)
        if known:
            return float(known[1])
        condition = re.search(r"condition=%?([\w.\-]+)", loop.attributes)
        tested = self.computations.get(condition[1], {}) if condition else {}
        for test in tested.values():
            if test.opcode != "compare" or "direction=LT" not in test.attributes:
                continue
            counter, limit = (tested.get(name) for name in test.operands)
            stop, index = (
                _constant(limit),
                counter and re.search(r"index=(\d+)", counter.attributes),
            )
            if stop is not None and index:
                return float(max(stop - self._initial(computation, loop, int(index[1])), 0))
        self.unknown_trip_counts += 1
        return 1.0

    def _initial(self, computation: str, loop: Instruction, index: int) -> int:
        """First value of a loop's counter: 0, or the constant it is given."""
        initial = self.computations[computation].get(loop.operands[0])
        if initial is None or initial.opcode != "tuple":
            return 0
        counter = self.computations[computation].get(initial.operands[index])
        return _constant(counter) or 0


def _constant(instruction: Instruction | None) -> int | None:
    if instruction is None or instruction.opcode != "constant":
        return None
    return int(instruction.arguments) if re.fullmatch(r"-?\d+", instruction.arguments) else None
