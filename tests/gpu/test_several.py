"""What eight NVIDIA H200s that share a batch would be given to run: what they send, and what they compute meanwhile.

Compiled, not run, like everything here: that a convolution stands between the start and the end of an all-reduce says
that they may overlap, not for how long.
"""

from __future__ import annotations

import re

import pytest

from approxtrain.bench.step_bench import StepBench
from approxtrain.config import load
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.training.batch import Keys
from approxtrain.training.dispatch import Dispatch
from approxtrain.training.moved import by_path
from approxtrain.training.parallel import Replicas
from tests.gpu.program import CONVOLUTIONS, Instruction, Program
from tests.gpu.target import Target

pytestmark = pytest.mark.compiler

DEVICES = 8
GRADIENTS = 100_000
"""Elements above which an all-reduce is one of gradients: a bucket of them, and not the sums of a batch norm."""
ROTATED = {"method": "zero", "layers": {"start": 2, "every": 3}, "replicas": {"stop": 2, "rotate": 1}}
CASES = {
    "full": ({"name": "full"}, "float32"),
    "full, sent as bfloat16": ({"name": "full"}, "bfloat16"),
    "layers from 9 zero": ({"rules": [{"method": "zero", "layers": {"start": 9}}]}, "float32"),
    "every third layer zero on two, rotated": ({"rules": [ROTATED]}, "float32"),
}
"""Schedule, and the type in which gradients are sent."""
SIZE = {"f32": 4, "bf16": 2}


class Described(Replicas):
    """Devices that are not there, so that nothing can be put on them."""

    def place(self, tree):
        return tree


def compiled(target: Target, schedule: dict, sent_as: str) -> tuple[Program, Schedule, dict[str, int]]:
    """A step of VGG-19 in bfloat16, its schedule, and the size of each parameter."""
    over = ["data.name=shapes", "data.limit=2000", "train.batch_size=256", "train.precision=bfloat16"]
    bench = StepBench(load("vgg19-full", over))
    table = ScheduleConfig.model_validate(schedule)
    column = Schedule.from_config(table, bench.model.layers, bench.steps_per_epoch, None, DEVICES)
    one, state, order = bench.dispatch(bench.schedule(bench.config.schedule))
    replicas = Described(list(target.mesh.devices.flat), sent_as=sent_as)
    dispatch = Dispatch(one.task, column, Keys.of([0]), bench.config.train, mode="host", replicas=replicas)
    step = replicas.program(dispatch.step_function(0))
    program = target.compile(step, state, bench.images, order, dispatch.keys, donate=(0,))
    return program, column, {name: leaf.size for name, leaf in by_path(state.params).items()}


@pytest.fixture(scope="module")
def eight(target: Target) -> Target:
    return Target(target.description, target.ptxas, DEVICES)


@pytest.fixture(scope="module")
def exact(eight: Target) -> Program:
    return compiled(eight, *CASES["full"])[0]


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_sent_in_buckets_while_convolutions_go_on(name: str, eight: Target, exact: Program, record):
    table, sent_as = CASES[name]
    program, schedule, sizes = compiled(eight, table, sent_as)
    body = list(next(body for body in program.computations.values() if "all-reduce-start" in str(body)).values())
    buckets = {item.name: largest(item) for item in body if item.opcode == "all-reduce-start"}
    gradients = {name: count * SIZE[kind] for name, (count, kind) in buckets.items() if count > GRADIENTS}
    between = {name: convolutions_during(name, body) for name in gradients}
    found = {
        "schedule": name,
        "devices": DEVICES,
        "buckets_mb": [round(1e-6 * count, 2) for count in gradients.values()],
        "convolutions_during": list(between.values()),
        "conditionals": sum(item.opcode == "conditional" for item in body),
        "convolutions": program.convolutions,
    }
    layers = zip(schedule.layers, schedule.columns[0], strict=True)
    known = {f"{path}/kernel" for path, method in layers if method.known_everywhere}
    due = sum(size for path, size in sizes.items() if path not in known)
    # with loss and number of right images, where these are of the same type
    due = 2 * due if sent_as == "bfloat16" else 4 * (due + 2)
    problems = []
    if sum(gradients.values()) != due:
        problems.append(f"{sum(gradients.values())} bytes of gradients are sent where {due} are due")
    if others := re.findall(r" (all-gather|all-to-all|collective-permute|reduce-scatter)", program.hlo):
        problems.append(f"there is a {others[0]}")
    if len(gradients) > 1 and not any(between.values()):  # a single bucket waits for the last gradient
        problems.append("no convolution goes on while gradients are sent")
    problems += [
        f"{program.convolutions[kind]} {kind} convolutions where exact training has {exact.convolutions[kind]}"
        for kind in ("forward", "dgrad")
        if program.convolutions[kind] != exact.convolutions[kind]
    ]
    record["several"].append(found | {"problems": problems})
    assert problems == []


def largest(item: Instruction) -> tuple[int, str]:
    """Elements and type of the largest array that it sends."""
    return max((int(count), kind) for kind, count in re.findall(r"(f32|bf16)\[(\d+)\]", item.type))


def convolutions_during(start: str, body: list[Instruction]) -> int:
    """Between the start of an all-reduce and its end, as they are launched; those in a conditional not counted."""
    names = [item.name for item in body]
    begin = names.index(start)
    end = next(n for n, item in enumerate(body) if item.opcode == "all-reduce-done" and start in item.operands)
    return sum(item.target in CONVOLUTIONS.values() for item in body[begin:end])
