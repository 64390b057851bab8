"""What is in a program that XLA compiled for a GPU, read from its text: convolutions, kernels, transposes, registers.

Four texts describe it: the optimised HLO, the sequence of thunks (what is launched, with its grid), PTX for each
kernel, and what `ptxas -v` says of that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

CONVOLUTIONS = {
    "forward": "__cudnn$convForward",
    "forward with bias": "__cudnn$convBiasActivationForward",
    "dgrad": "__cudnn$convBackwardInput",
    "wgrad": "__cudnn$convBackwardFilter",
}
PALLAS = "__gpu$xla.gpu.triton"
TRANSPARENT = ("bitcast", "get-tuple-element", "reshape")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%([\w.-]+) = (.+?) ([a-z][\w-]*)\((.*)$")
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

    @property
    def target(self) -> str:
        """What a custom call calls; empty for anything else."""
        return _first(r'custom_call_target="([^"]+)"', self.text)

    @property
    def called(self) -> str:
        """The computation that a fusion calls; empty for anything else."""
        return _first(r"calls=%([\w.-]+)", self.text)

    @property
    def kernel(self) -> str:
        """The name that a Pallas call was given."""
        return _first(r'backend_config=\{.*?\bname = "([^"]+)"', self.text) or self.name

    @property
    def layout(self) -> str:
        """The order of its axes in memory: "1,0" of "f32[9,8]{1,0:T(8)}"."""
        return _first(r"\{([\d,]*)", self.type)


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
        bodies: dict[str, dict[str, Instruction]] = {}
        current: dict[str, Instruction] = {}
        for line in self.hlo.splitlines():
            if head := re.match(r"^(?:ENTRY )?%([\w.-]+) \(", line):
                current = bodies.setdefault(head[1], {})
            elif match := _INSTRUCTION.match(line):
                name, type_, opcode, rest = match.groups()
                operands = tuple(re.findall(r"%([\w.-]+)", rest.partition(")")[0]))
                current[name] = Instruction(name, type_, opcode, operands, line)
        return bodies

    @property
    def convolutions(self) -> dict[str, int]:
        """How many cuDNN convolutions of each kind are called."""
        targets = [item.target for body in self.computations.values() for item in body.values()]
        return {kind: targets.count(target) for kind, target in CONVOLUTIONS.items()}

    @property
    def thunks(self) -> list[Thunk]:
        thunks = []
        for kind, name, *numbers in _THUNK.findall(self.thunk_text):
            x, y, z, *threads, shared = (int(number or 0) for number in numbers)
            grid = (x, y, z) if x else ()
            thunks.append(Thunk(kind, name, grid, threads[0] * threads[1] * threads[2], shared))
        return thunks

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

        Before the call also one that a fusion does on the side; after it only what is a kernel by itself, since the
        optimiser reads the result anyway and may read it in another order.
        """
        body = next(body for body in self.computations.values() if body.get(call.name) is call)
        makers = {item.name: [_maker(operand, body) for operand in item.operands] for item in body.values()}
        before = [maker.name for maker in makers[call.name] if maker and self._moves(maker, body)]
        users = [body[name] for name, of in makers.items() if call in of and body[name].opcode not in TRANSPARENT]
        return before, [item.name for item in users if self._moves(item, body) and self._does_nothing_else(item)]

    def _moves(self, item: Instruction, body: dict[str, Instruction]) -> bool:
        """Whether it, or an instruction of the fusion that it is, puts the elements of an array into another order."""
        if item.opcode == "transpose":
            return sum(int(size) > 1 for size in re.findall(r"\d+", _first(r"\[([\d,]*)\]", item.type))) > 1
        if item.opcode == "copy" and item.operands[0] in body:
            return item.layout != body[item.operands[0]].layout
        inner = self.computations.get(item.called, {})
        return any(self._moves(each, inner) for each in inner.values())

    def _does_nothing_else(self, item: Instruction) -> bool:
        opcodes = {each.opcode for each in self.computations.get(item.called, {}).values()}
        return opcodes <= {"parameter", "transpose", "copy", "bitcast", "convert"}


def resources(report: str) -> dict[str, Resources]:
    """Kernel → what it takes, from what `ptxas -v` writes."""
    parts = re.split(r"Compiling entry function '", report)[1:]
    if any(not re.search(r"Used \d+ registers", part) or "bytes spill stores" not in part for part in parts):
        raise ValueError(f"ptxas does not report registers and spills, so that nothing is known of spills: {report!r}")
    numbers = (
        r"Used (\d+) registers",
        r"(\d+) bytes stack frame",
        r"(\d+) bytes spill stores",
        r"(\d+) bytes spill loads",
        r"(\d+) bytes smem",
    )
    return {
        part.partition("'")[0]: Resources(*(int(_first(number, part) or 0) for number in numbers)) for part in parts
    }


def entries(ptx: str) -> list[str]:
    """The kernels of a PTX text."""
    return re.findall(r"\.entry (\w+)\(", ptx)


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""


def _maker(name: str, body: dict[str, Instruction]) -> Instruction | None:
    """The instruction that computes this value, which others may have handed on unchanged."""
    item = body.get(name)
    return _maker(item.operands[0], body) if item and item.opcode in TRANSPARENT and item.operands else item
