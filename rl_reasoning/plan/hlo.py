"""What a compiled program does, read from its text: work, memory traffic and collectives, loops as often as they run.

XLA's own cost analysis counts the body of a loop once. Here a computation counts as often as it is called: a loop's
body by the constant that its condition compares with. What it cannot read it does not guess: a loop without such a
constant counts once, and its name is kept in `Work.open_loops`. A collective that the compiler spreads over several
fusions, which make other things meanwhile, has one channel, and counts once.
"""

import collections
import dataclasses
import itertools
import math
import re
from collections.abc import Iterator

_TYPES = {"pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4,
          "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
_SHAPE = re.compile(r"\b(" + "|".join(_TYPES) + r")\[([\d,]*)\](\{[^}]*\})?")
_NEAR = re.compile(r"S\([1-9]\)")  # a memory space of its own within the chip: not the chip's main memory
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%(\S+) = (.+)$")
_COMPUTATION = re.compile(r"^(ENTRY )?%(\S+) \(.*\) -> .* \{$")
_CALLED = re.compile(r"(?:calls|body|to_apply|condition|true_computation|false_computation)=%([\w.\-]+)")
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_FREE = {"parameter", "get-tuple-element", "tuple", "bitcast", "constant", "after-all", "iota", "partition-id"}


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line: its name, operation, shapes of its result as (type, sizes), operands by name, and its own text.

    Attributes: sizes: bytes of each of the shapes, as far as it lies in the chip's main memory.
    """

    name: str
    operation: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    operands: tuple[str, ...]
    text: str
    sizes: tuple[float, ...]

    @property
    def bytes(self) -> float:
        """Of the whole result."""
        return sum(self.sizes)


@dataclasses.dataclass
class Work:
    """What one run of a program does on one device.

    flops: of matrix products. bytes: read and written by instructions outside fusions, an upper figure. collectives:
    kind -> bytes that a device sends. open_loops: names of loops whose count is not in the text; counted once.
    """

    flops: float = 0.0
    bytes: float = 0.0
    collectives: dict[str, float] = dataclasses.field(default_factory=lambda: collections.defaultdict(float))
    open_loops: list[str] = dataclasses.field(default_factory=list)


def read(text: str) -> Work:
    """The work of a program from `compiled.as_text()`."""
    program = _Program(text)
    work = Work()
    program.add(program.entry, 1.0, work)
    work.collectives = dict(work.collectives)
    return work


class _Program:
    """The computations of a module, each a list of instructions."""

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        current: dict[str, Instruction] = {}
        for line in text.splitlines():
            if found := _COMPUTATION.match(line):
                current = self.computations.setdefault(found[2], {})
                self.entry = found[2] if found[1] else self.entry
            elif found := _INSTRUCTION.match(line):
                current[found[1]] = _instruction(found[1], found[2])

    def add(self, name: str, times: float, work: Work, channels: set[str] | None = None) -> None:
        """Adds what a computation does, `times` over.

        Args: channels: of a fusion: those of the collectives that its caller has begun.
        """
        computation, fused = self.computations[name], channels is not None
        channels = set() if channels is None else channels
        for one in computation.values():
            work.flops += times * _flops(one, computation)
            kind = one.operation.removesuffix("-start")
            if kind in COLLECTIVES and _is_new(one, channels):
                work.collectives[kind] += times * _sent(one, kind)
            if not fused and one.operation not in _FREE | {"while", "conditional", "call"}:
                work.bytes += times * self._traffic(one, computation)
            for called, count in self._called(one, work):
                self.add(called, times * count, work, channels if fused or one.operation == "fusion" else None)

    def _called(self, one: Instruction, work: Work) -> Iterator[tuple[str, float]]:
        if one.operation == "while":
            parts = dict(re.findall(r"(condition|body)=%([\w.\-]+)", one.text))
            yield parts["body"], self._trips(parts["condition"], parts["body"], one, work)
        elif one.operation in ("fusion", "call", "conditional") or "-start" in one.operation:
            yield from ((name, 1.0) for name in _CALLED.findall(one.text) if name in self.computations)

    def _trips(self, condition: str, body: str, loop: Instruction, work: Work) -> float:
        bounds = set(self._constants(condition))
        if len(bounds) == 1:
            return math.ceil(bounds.pop() / self._step(condition, body))
        work.open_loops.append(loop.name)
        return 1.0

    def _step(self, condition: str, body: str) -> int:
        """What a loop's counter grows by each time: more than 1 where the compiler put several turns into one."""
        counter = next((re.search(r"index=(\d+)", one.text) for one in self.computations[condition].values()
                        if one.operation == "get-tuple-element"), None)
        inside = self.computations[body]
        results = [one.operands for one in inside.values() if one.operation == "tuple"]
        if counter and results and int(counter[1]) < len(results[-1]):
            grown = inside.get(results[-1][int(counter[1])])
            for name in grown.operands if grown and grown.operation == "add" else ():
                if name in inside and (found := re.search(r"constant\((\d+)\)", inside[name].text)):
                    return max(1, int(found[1]))
        return 1

    def _constants(self, name: str) -> Iterator[int]:
        """The whole-number constants of a condition that are compared with something."""
        for one in self.computations[name].values():
            if one.operation == "constant" and (found := re.search(r"[su]32\[\]\S* constant\((\d+)\)", one.text)):
                yield int(found[1])
            for called in _CALLED.findall(one.text):
                yield from self._constants(called)

    def _traffic(self, one: Instruction, computation: dict[str, Instruction]) -> float:
        """Bytes that an instruction reads and writes; of an operand that a fusion only slices, the slices."""
        if one.operation.endswith("-done"):
            return 0.0
        if one.operation in ("dynamic-slice", "slice", "gather"):
            return 2 * one.bytes
        if one.operation == "copy-start":  # its result holds the operand, too
            return one.bytes
        if one.operation == "slice-start":
            part, whole = _size(one.shapes[1]), _size(one.shapes[0])
            return part + max(0.0, one.bytes - whole)
        if one.operation == "dynamic-update-slice":
            return 2 * computation[one.operands[1]].bytes if one.operands[1] in computation else one.bytes
        inner = self._fused(one)
        handed_on = _handed_on(inner, one)
        read = sum(_sliced(inner, number, computation[name].bytes) for number, name in enumerate(one.operands)
                   if name in computation and number not in handed_on.values())
        return read + _written(inner, one) - sum(one.sizes[number] for number in handed_on)

    def _fused(self, one: Instruction) -> dict[str, Instruction]:
        called = _CALLED.findall(one.text) if one.operation == "fusion" else []
        return self.computations[called[0]] if called else {}


def _instruction(name: str, rest: str) -> Instruction:
    """From what follows the equals sign: type, operation, operands in brackets, attributes."""
    # A tuple's type has brackets and spaces of its own; the first space outside them ends it.
    depths = itertools.accumulate({"(": 1, ")": -1}.get(letter, 0) for letter in rest)
    end = next((place for place, depth in enumerate(depths) if depth == 0 and rest[place] == " "), len(rest))
    kind, call = rest[:end], rest[end + 1:]
    operation, _, arguments = call.partition("(")
    inside = arguments.partition("), ")[0]
    found = [(t, tuple(int(n) for n in sizes.split(",") if n), layout) for t, sizes, layout in _SHAPE.findall(kind)]
    size = tuple(0.0 if _NEAR.search(layout) else _TYPES[t] * math.prod(sizes) for t, sizes, layout in found)
    return Instruction(name, operation, tuple(one[:2] for one in found), tuple(re.findall(r"%([\w.\-]+)", inside)),
                       rest, size)


def _size(shape: tuple[str, tuple[int, ...]]) -> float:
    return _TYPES[shape[0]] * math.prod(shape[1])


def _flops(one: Instruction, computation: dict[str, Instruction]) -> float:
    """2 x elements of the result x what is summed over, of a dot or of a convolution that stands for one."""
    if one.operation == "dot":
        left = computation[one.operands[0]].shapes[0][1]
        summed = _found(r"lhs_contracting_dims=\{([\d,]*)\}", one)[1]
        return 2 * math.prod(one.shapes[0][1]) * math.prod(left[int(n)] for n in summed.split(",") if n)
    if one.operation != "convolution":
        return 0.0
    kernel = computation[one.operands[1]].shapes[0][1]
    labels = _found(r"dim_labels=\w+_(\w+)->(\w+)", one)
    summed = kernel[labels[1].index("i")]
    # A window over a dimension that the result has, too, walks a batch: each place has one tap.
    for place, letter in enumerate(labels[1]):
        if letter.isdigit() and one.shapes[0][1][labels[2].index(letter)] == 1:
            summed *= kernel[place]
    return 2 * math.prod(one.shapes[0][1]) * summed


def _found(pattern: str, one: Instruction) -> re.Match[str]:
    """Raises ValueError where an instruction has not what its kind always has."""
    found = re.search(pattern, one.text)
    if found is None:
        raise ValueError(f"the instruction {one.text[:200]!r} has no {pattern}")
    return found


def _sent(one: Instruction, kind: str) -> float:
    """Bytes that a device sends in a ring over n devices: (n - 1) / n of the whole, twice that for an all-reduce."""
    result = max(map(_size, one.shapes))
    count = _group(one.text)
    if kind == "collective-permute":
        return result
    if kind == "reduce-scatter":
        return result * (count - 1)
    return result * (count - 1) / count * (2 if kind == "all-reduce" else 1)


def _is_new(one: Instruction, channels: set[str]) -> bool:
    """Whether a collective is none of those that were begun, to which it is added."""
    found = re.search(r"channel_id=(\d+)", one.text)
    if found is None:
        return True
    new = found[1] not in channels
    channels.add(found[1])
    return new


def _handed_on(inner: dict[str, Instruction], one: Instruction) -> dict[int, int]:
    """Results of a fusion that only goes on with a collective, by the operands whose memory they are."""
    if not any(each.operation in COLLECTIVES for each in inner.values()):
        return {}
    places = re.search(r"output_to_operand_aliasing=\{(.*?\)\s*)\}", one.text)
    pairs = re.findall(r"\{(\d*)\}: \((\d+),", places[1]) if places else []
    return {int(result or 0): int(operand) for result, operand in pairs}


def _group(text: str) -> int:
    """Devices of one group: replica_groups as {{0,1},...}, as [groups,size]<=[...], or by axes of a mesh."""
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
        return len(found[1].split(","))
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", text):
        return int(found[1])
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}", text):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", found[2]))
    return 2


def _sliced(inner: dict[str, Instruction], number: int, size: float) -> float:
    """Bytes that a fusion reads of its operand: all, or its slices where it does nothing else with it."""
    name = next((one.name for one in inner.values() if one.operation == "parameter"
                 and f"parameter({number})" in one.text), None)
    users = [one for one in inner.values() if name in one.operands]
    if users and all(one.operation in ("dynamic-slice", "slice", "gather") for one in users):
        return min(size, sum(one.bytes for one in users))
    if users and all(one.operation == "dynamic-update-slice" and one.operands[0] == name for one in users):
        return 0.0
    return size


def _written(inner: dict[str, Instruction], one: Instruction) -> float:
    """Bytes that a fusion writes: of an update in place, the part."""
    updates = [each for each in inner.values() if each.operation == "dynamic-update-slice"]
    if updates and all(each.operands[1] in inner for each in updates):
        return min(one.bytes, sum(inner[each.operands[1]].bytes for each in updates))
    return one.bytes
