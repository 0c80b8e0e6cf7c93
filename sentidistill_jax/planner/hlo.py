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
        return _arrays(self.result)

    @property
    def results(self) -> tuple[ArrayType, ...]:
        """The arrays that it makes.

        An instruction that only starts names its operands before them, in parentheses if they may
        be several, and scalars of its own after; a copy names its source after.
        """
        if not self.opcode.endswith("-start") or self.opcode == "all-reduce-start":
            return self.arrays
        if self.opcode == "copy-start":
            return self.arrays[:1]
        nested = self.result.startswith("((")
        found = _arrays(self.result[_balanced(self.result, 1) :]) if nested else self.arrays[1:]
        return tuple(array for array in found if array.shape)

    @property
    def is_free(self) -> bool:
        """Whether it computes and moves nothing, by itself."""
        return self.opcode in _FREE or self.opcode.endswith(("-done", "-update"))

    @property
    def is_collective(self) -> bool:
        """Whether devices exchange arrays by it, or begin to."""
        return self.opcode.startswith(("all-", "reduce-scatter", "collective-", "ragged-"))

    @property
    def called(self) -> list[str]:
        """Computations that it runs; not the condition of a loop."""
        names = [] if self.opcode in _REDUCERS else _CALLED.findall(self.attributes)
        branches = _BRANCHES.search(self.attributes)
        if branches:
            names += [name.strip(" %") for name in branches[1].split(",")]
        return names


def _arrays(text: str) -> tuple[ArrayType, ...]:
    return tuple(
        ArrayType(dtype, tuple(int(n) for n in dims.split(",") if n), layout or "")
        for dtype, dims, layout in _ARRAY.findall(text)
        if dtype != "token"
    )


# Give names to what is there already, or wait for what was counted when it started.
_FREE = {
    "parameter", "tuple", "get-tuple-element", "bitcast", "constant", "while", "conditional",
    "call", "after-all", "partition-id", "replica-id", "opt-barrier", "iota", "broadcast",
    "send", "recv",
}  # fmt: skip
CONTROL = ("while", "call", "conditional")  # what they call is scheduled by itself
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

    def scheduled(self) -> Iterator[tuple[str, float]]:
        """Yields computations whose instructions run one by one, and how often each of them runs.

        A computation that is called from several places is yielded once for each.
        """
        waiting = collections.deque([(self.entry, 1.0)])
        while waiting:
            name, count = waiting.popleft()
            if name not in self.computations:
                continue
            yield name, count
            for instruction in self.computations[name].values():
                if instruction.opcode in CONTROL:
                    loops = instruction.opcode == "while"
                    rounds = self._trip_count(name, instruction) if loops else 1.0
                    waiting.extend((called, count * rounds) for called in instruction.called)

    def within(
        self, computation: str, instruction: Instruction
    ) -> Iterator[tuple[str, Instruction]]:
        """Yields (computation, instruction): itself, and all that is fused into it."""
        yield computation, instruction
        if instruction.opcode not in CONTROL:
            for called in instruction.called:
                for inner in self.computations.get(called, {}).values():
                    yield from self.within(called, inner)

    def _trip_count(self, computation: str, loop: Instruction) -> float:
        """Rounds of a loop that counts from a constant to a constant by a constant."""
        known = re.search(r'known_trip_count"?:\{"n":"(\d+)"', loop.attributes)
        if known:
            return float(known[1])
        condition = re.search(r"condition=%?([\w.\-]+)", loop.attributes)
        tested = self.computations.get(condition[1], {}) if condition else {}
        for test in tested.values():
            direction = re.search(r"direction=(LT|LE|GT|GE)", test.attributes)
            if test.opcode != "compare" or direction is None:
                continue
            counter, limit = (tested.get(name) for name in test.operands)
            index = counter and re.search(r"index=(\d+)", counter.attributes)
            stop = _constant(limit)
            if stop is None or not index:
                continue
            start = self._initial(computation, loop, int(index[1]))
            step = self._increment(loop, int(index[1]))
            if start is None or step is None or (step > 0) != direction[1].startswith("L"):
                continue
            last = {"LE": 1, "GE": -1}.get(direction[1], 0)
            return float(len(range(start, stop + last, step)))
        self.unknown_trip_counts += 1
        return 1.0

    def _initial(self, computation: str, loop: Instruction, index: int) -> int | None:
        """First value of a loop's counter, if it is a constant."""
        given = self.computations[computation]
        initial = given.get(loop.operands[0])
        if initial is None or initial.opcode != "tuple":
            return None
        return _constant(_source(initial.operands[index], given))

    def _increment(self, loop: Instruction, index: int) -> int | None:
        """What a round adds to the counter, if it is a constant other than 0.

        The compiler unrolls loops: the counter of two rounds in one goes up by two.
        """
        body = self.computations[loop.called[0]]
        change = _source(self.root(loop.called[0]).operands[index], body)
        total = 0
        while change is not None and change.opcode in ("add", "subtract"):
            first, second = (_source(name, body) for name in change.operands)
            if change.opcode == "add" and _constant(second) is None:
                first, second = second, first
            by = _constant(second)
            if by is None:
                return None
            total += by if change.opcode == "add" else -by
            change = first
        is_counter = change is not None and re.search(rf"index={index}\b", change.attributes)
        return (total or None) if is_counter else None


def _source(name: str, computation: dict[str, Instruction]) -> Instruction | None:
    """The instruction of that name, or what it is a copy of."""
    found = computation.get(name)
    while found is not None and found.opcode in ("copy", "bitcast"):
        found = computation.get(found.operands[0])
    return found


def _constant(instruction: Instruction | None) -> int | None:
    if instruction is None or instruction.opcode != "constant":
        return None
    return int(instruction.arguments) if re.fullmatch(r"-?\d+", instruction.arguments) else None
