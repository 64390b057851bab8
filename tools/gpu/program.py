"""What is in a program that XLA compiled for a GPU, read from its text: convolutions, kernels, transposes, registers.

Four texts describe it: the optimised HLO, the sequence of thunks (what is launched, with its grid), PTX for each
kernel, and what `ptxas -v` says of that. Imports no jax.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

CONVOLUTIONS = {
    "forward": "__cudnn$convForward",
    "forward with bias": "__cudnn$convBiasActivationForward",
    "dgrad": "__cudnn$convBackwardInput",
    "wgrad": "__cudnn$convBackwardFilter",
}
PALLAS = "__gpu$xla.gpu.triton"
_TRANSPARENT = ("bitcast", "get-tuple-element", "reshape")
_INSTRUCTION = re.compile(r"^\s*(ROOT )?%([\w.-]+) = (.+?) ([a-z][\w-]*)\((.*)$")
_THUNK = re.compile(
    r"^\s*\d+: k(\w+)\s+\[.*?\]\s+(\S+)"
    r"(?: grid: \[(\d+), (\d+), (\d+)\] threads: \[(\d+), (\d+), (\d+)\]\s+shared_memory: (\d+) bytes)?",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Instruction:
    name: str
    type: str
    opcode: str
    operands: tuple[str, ...]
    text: str
    root: bool

    @property
    def target(self) -> str:
        """What a custom call calls; empty for anything else."""
        found = re.search(r'custom_call_target="([^"]+)"', self.text)
        return found[1] if found else ""

    @property
    def called(self) -> str:
        """The computation that a fusion calls; empty for anything else."""
        found = re.search(r"calls=%([\w.-]+)", self.text)
        return found[1] if found else ""

    @property
    def kernel(self) -> str:
        """The name that a Pallas call was given."""
        found = re.search(r'backend_config=\{.*?\bname = "([^"]+)"', self.text)
        return found[1] if found else self.name


@dataclass(frozen=True)
class Thunk:
    """One thing that the program launches. `shared_bytes` is the dynamic shared memory of a kernel."""

    kind: str
    name: str
    grid: tuple[int, ...] = ()
    threads: int = 0
    shared_bytes: int = 0


@dataclass(frozen=True)
class Resources:
    """What one kernel takes, by ptxas. `stack_bytes` is local memory, in which spills lie as well."""

    registers: int
    stack_bytes: int
    spill_store_bytes: int
    spill_load_bytes: int
    static_shared_bytes: int

    @property
    def spills(self) -> bool:
        return self.spill_store_bytes + self.spill_load_bytes > 0


@dataclass(frozen=True)
class Program:
    """A compiled program. `ptx` is by the name of the kernel."""

    hlo: str
    thunk_text: str = ""
    ptx: dict[str, str] = field(default_factory=dict)

    @cached_property
    def computations(self) -> dict[str, dict[str, Instruction]]:
        """Computation → name → instruction."""
        found: dict[str, dict[str, Instruction]] = {}
        current: dict[str, Instruction] = {}
        for line in self.hlo.splitlines():
            if head := re.match(r"^(?:ENTRY )?%([\w.-]+) \(", line):
                current = found.setdefault(head[1], {})
            elif match := _INSTRUCTION.match(line):
                root, name, type_, opcode, rest = match.groups()
                operands = tuple(re.findall(r"%([\w.-]+)", rest.partition(")")[0]))
                current[name] = Instruction(name, type_, opcode, operands, line, bool(root))
        return found

    @property
    def convolutions(self) -> dict[str, int]:
        """How many cuDNN convolutions of each kind are called."""
        targets = [item.target for body in self.computations.values() for item in body.values()]
        return {kind: targets.count(target) for kind, target in CONVOLUTIONS.items()}

    @property
    def thunks(self) -> list[Thunk]:
        found = []
        for kind, name, *numbers in _THUNK.findall(self.thunk_text):
            x, y, z, *threads, shared = (int(number or 0) for number in numbers)
            grid = (x, y, z) if x else ()
            found.append(Thunk(kind, name, grid, threads[0] * threads[1] * threads[2], shared))
        return found

    @property
    def launched(self) -> list[Thunk]:
        """The thunks that put work on the device."""
        return [thunk for thunk in self.thunks if thunk.kind not in ("Sequential", "Conditional", "While")]

    @property
    def pallas_calls(self) -> list[Instruction]:
        return [call for body in self.computations.values() for call in body.values() if call.target == PALLAS]

    def launches(self, kernel: str) -> list[Thunk]:
        """The launches of a kernel; XLA numbers those that share a name: `name`, `name__1`, …"""
        return [thunk for thunk in self.thunks if re.fullmatch(rf"{re.escape(kernel)}(_+\d+)?", thunk.name)]

    def transposes(self, call: Instruction) -> tuple[list[str], list[str]]:
        """The transposes, and copies to another layout, that make an operand of `call`, and those that take its result.

        One that a fusion does on the side is "fusion/transpose"; one that is a kernel by itself has no slash.
        """
        body = next(body for body in self.computations.values() if body.get(call.name) is call)
        return list(self._before(call, body)), list(self._after(call, body))

    def _before(self, call: Instruction, body: dict[str, Instruction]) -> Iterator[str]:
        for operand in call.operands:
            index, maker = None, body[operand]
            while maker.opcode in _TRANSPARENT and maker.operands:
                picked = re.search(r"\), index=(\d+)", maker.text)
                index = int(picked[1]) if picked else index
                maker = body[maker.operands[0]]
            if _moves(maker, body):
                yield maker.name
            elif maker.called:
                inner = self.computations[maker.called]
                root = next(item for item in inner.values() if item.root)
                start = root.operands[index] if root.opcode == "tuple" and index is not None else root.name
                yield from _moving(maker.name, _upward(start, inner), inner)

    def _after(self, call: Instruction, body: dict[str, Instruction]) -> Iterator[str]:
        for value in _seen_as(call.name, body):
            for user in body.values():
                if value not in user.operands or user.opcode in _TRANSPARENT:
                    continue
                if _moves(user, body):
                    yield user.name
                elif user.called:
                    inner, position = self.computations[user.called], user.operands.index(value)
                    parameter = next(i for i in inner.values() if f"parameter({position})" in i.text)
                    yield from _moving(user.name, _downward(parameter.name, inner), inner)


def resources(report: str) -> dict[str, Resources]:
    """Kernel → what it takes, from what `ptxas -v` writes."""
    found = {}
    for part in re.split(r"Compiling entry function '", report)[1:]:
        name = part.partition("'")[0]
        found[name] = Resources(
            registers=_number(r"Used (\d+) registers", part, needed=True),
            stack_bytes=_number(r"(\d+) bytes stack frame", part),
            spill_store_bytes=_number(r"(\d+) bytes spill stores", part, needed=True),
            spill_load_bytes=_number(r"(\d+) bytes spill loads", part, needed=True),
            static_shared_bytes=_number(r"(\d+) bytes smem", part),
        )
    return found


def entries(ptx: str) -> list[str]:
    """The kernels of a PTX text."""
    return re.findall(r"\.entry (\w+)\(", ptx)


def _number(pattern: str, text: str, needed: bool = False) -> int:
    found = re.search(pattern, text)
    if needed and not found:
        raise ValueError(f"ptxas reports nothing like {pattern!r}, so that nothing is known of spills: {text[:200]!r}")
    return int(found[1]) if found else 0


def _moves(item: Instruction, body: dict[str, Instruction]) -> bool:
    """Whether this instruction puts the elements of an array into another order."""
    if item.opcode == "transpose":
        shape = [int(n) for n in re.findall(r"\d+", item.type.partition("[")[2].partition("]")[0])]
        return sum(n > 1 for n in shape) > 1
    if item.opcode == "copy" and item.operands and item.operands[0] in body:
        return _layout(item.type) != _layout(body[item.operands[0]].type)
    return False


def _layout(type_: str) -> str:
    return type_.partition("{")[2].partition("}")[0].partition(":")[0]


def _moving(fusion: str, names: set[str], body: dict[str, Instruction]) -> Iterator[str]:
    """The transposes among `names`, instructions of a fusion."""
    alone = {item.opcode for item in body.values()} <= {"parameter", "transpose", "copy", "bitcast", "convert"}
    for name in sorted(name for name in names if _moves(body[name], body)):
        yield fusion if alone else f"{fusion}/{name}"


def _upward(start: str, body: dict[str, Instruction]) -> set[str]:
    """`start` and all that it is computed from."""
    seen, left = set(), [start]
    while left:
        name = left.pop()
        if name not in seen and name in body:
            seen.add(name)
            left += body[name].operands
    return seen


def _downward(start: str, body: dict[str, Instruction]) -> set[str]:
    """`start` and all that is computed from it."""
    seen, grew = {start}, True
    while grew:
        more = {item.name for item in body.values() if seen.intersection(item.operands)} - seen
        seen |= more
        grew = bool(more)
    return seen


def _seen_as(name: str, body: dict[str, Instruction]) -> set[str]:
    """The names under which the value of `name` is handed on unchanged."""
    seen, grew = {name}, True
    while grew:
        more = {i.name for i in body.values() if i.opcode in _TRANSPARENT and seen.intersection(i.operands)} - seen
        seen |= more
        grew = bool(more)
    return seen
