"""What an NVIDIA H200 would be given to run: our kernels fit, and a training step consists of what it should.

Compiled, not run: nothing here is a time or a result. `make gpu-check` gets the compiler and runs these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import product

import jax
import pytest

from approxtrain.bench.kernel_contenders import estimator
from approxtrain.bench.step_bench import StepBench
from approxtrain.config import load
from approxtrain_cli.bench_kernel_tables import describe
from approxtrain_kernels import ConvShape, Method
from approxtrain_kernels.methods import make
from approxtrain_kernels.pallas.choose import choose, plans, verdict
from approxtrain_kernels.pallas.model import Plan
from approxtrain_kernels.pallas.wgrad import estimate
from approxtrain_kernels.shapes import PAPER
from tests.gpu.program import Program, Resources
from tests.gpu.target import Target

pytestmark = pytest.mark.compiler

DENSE = "dense"
DTYPES = ("float32", "bfloat16")
PRESETS = ("resnet20-schedule1-approx", "vgg19-schedule1-approx")
REGISTERS, WARPS, BLOCKS, SHARED = 65536, 64, 32, 233472
"""Of a Hopper multiprocessor; the last in bytes."""


@dataclass(frozen=True)
class Kernel:
    """One kernel of ours in one program."""

    name: str
    grid: tuple[int, ...]
    warps: int
    shared_bytes: int
    resources: Resources

    @property
    def warps_at_a_time(self) -> int:
        """Warps that a multiprocessor holds of it, out of 64."""
        by_warp = -(-max(self.resources.registers, 1) * 32 // 256) * 256
        shared = self.shared_bytes + self.resources.static_shared_bytes + 1024  # 1 KB a block is the system's
        blocks = min(REGISTERS // by_warp // self.warps, WARPS // self.warps, BLOCKS, SHARED // shared)
        return blocks * self.warps

    def as_json(self) -> dict:
        return asdict(self) | {"warps_at_a_time": self.warps_at_a_time}


def kernels_of(program: Program, target: Target) -> Iterator[Kernel]:
    """Our kernels in a program, each once."""
    for name in dict.fromkeys(call.kernel for call in program.pallas_calls):
        for thunk in dict.fromkeys(program.launches(name)):
            needs = target.assemble(program.ptx[thunk.name])[thunk.name]
            yield Kernel(thunk.name, thunk.grid, thunk.threads // 32, thunk.shared_bytes, needs)


def operands(shape: ConvShape, dtype: str) -> list[jax.ShapeDtypeStruct]:
    """x and dy."""
    return [jax.ShapeDtypeStruct(size, dtype) for size in (shape.x_shape, shape.y_shape)]


FORMS = [(dtype, shape, plan) for dtype, shape in product(DTYPES, PAPER) for plan in plans(shape, 1, dtype)]


@pytest.mark.parametrize(
    ("dtype", "shape", "plan"), [pytest.param(*f, id=f"{f[0]} {describe(asdict(f[1]))} {f[2].form}") for f in FORMS]
)
def test_a_form_of_approx_compiles_to_kernels_of_ours_that_do_not_spill_where_it_is_chosen(
    dtype: str, shape: ConvShape, plan: Plan, target: Target, record
):
    chosen = plan.form == choose(shape, 1, dtype).form
    what = {"shape": asdict(shape), "dtype": dtype, "plan": asdict(plan), "chosen": chosen, "error": ""}
    try:
        program = target.compile(partial(estimate, shape=shape, k=1, plan=plan), *operands(shape, dtype))
    except jax.errors.JaxRuntimeError as error:
        why = str(error).splitlines()[0]
        nothing = {"kernels": [], "convolutions": {}, "launches": 0}
        record["forms"].append(what | nothing | {"error": why, "problems": [f"it does not compile: {why}"]})
        raise
    kernels = list(kernels_of(program, target))
    # A spill of a form that no layer takes is recorded, but harms nobody.
    problems = [f"{kernel.name} spills" for kernel in kernels if kernel.resources.spills and chosen]
    if plan.form != DENSE and not kernels:
        problems.append("no kernel of ours is in the program")
    elif plan.form != DENSE and program.convolutions["wgrad"]:
        problems.append("cuDNN's weight gradient is in the program")
    counts = {"convolutions": program.convolutions, "launches": len(program.launched)}
    record["forms"].append(
        what | {"kernels": [kernel.as_json() for kernel in kernels]} | counts | {"problems": problems}
    )
    assert problems == []


@pytest.mark.parametrize(("preset", "precision"), list(product(PRESETS, DTYPES)))
def test_a_step_of_each_column_has_our_kernels_and_dense_gradients_where_they_are_due_and_no_transposes(
    preset: str, precision: str, target: Target, record
):
    bench = StepBench(load(preset, ["data.name=shapes", f"train.precision={precision}"]))
    schedule, batch = bench.schedule(bench.config.schedule), bench.config.train.batch_size
    dispatch, state, order = bench.dispatch(schedule)
    found = []
    for column, methods in enumerate(schedule.columns):
        step = dispatch.step_function(column)
        program = target.compile(step, state, bench.images, order, dispatch.keys, donate=(0,))
        layers = [
            compiled_layer(target, layer.path, method, replace(layer.shape, batch=batch), precision)
            for layer, method in zip(bench.model.layers, methods, strict=True)
        ]
        kernels = list(kernels_of(program, target))
        beside = {call.name: program.transposes(call) for call in program.pallas_calls}
        problems = step_problems(program, kernels, layers)
        record["steps"].append(
            {
                "config": preset,
                "precision": precision,
                "column": column,
                "layers": layers,
                "convolutions": program.convolutions,
                "calls": dict(Counter(call.kernel for call in program.pallas_calls)),
                "before": {call: before for call, (before, _) in beside.items() if before},
                "after": {call: after for call, (_, after) in beside.items() if after},
                "kernels": [kernel.as_json() for kernel in kernels],
                "launched": dict(Counter(thunk.kind for thunk in program.launched)),
                "problems": problems,
            }
        )
        found += [f"column {column}: {problem}" for problem in problems]
    assert found == []


def step_problems(program: Program, kernels: list[Kernel], layers: list[dict]) -> list[str]:
    problems = [f"{kernel.name} spills" for kernel in kernels if kernel.resources.spills]
    for call in program.pallas_calls:
        before, after = program.transposes(call)
        problems += [f"{name} stands before {call.name}" for name in before]
        problems += [f"{name} stands after {call.name}" for name in after]
    expected = sum(layer["wgrads"] for layer in layers)
    if program.convolutions["wgrad"] != expected:
        problems.append(f"{program.convolutions['wgrad']} dense weight gradients where {expected} are due")
    calls = Counter(call.kernel for call in program.pallas_calls)
    due = Counter(f"approx_{layer['form']}" for layer in layers if layer["form"] not in ("", "full", DENSE))
    for name in sorted({*due, *calls} - {"approx_select"}):
        if calls[name] != due[name]:
            problems.append(f"{calls[name]} calls of {name} where {due[name]} are due")
    missing = [name for name in calls if not any(kernel.name.startswith(name) for kernel in kernels)]
    return problems + [f"no compiled kernel was found for {name}" for name in missing]


def compiled_layer(target: Target, path: str, method: Method, shape: ConvShape, dtype: str) -> dict:
    """How a cell computes dW and why. `form`: `full` or a form of `approx`; empty where dW is not computed. `wgrads`:
    cuDNN calls that the weight gradient takes in that form."""
    form, why = "", ""
    if method.name == "full":
        form = "full"
    elif method.name == "approx":
        k = method.params["k"]
        form, why = choose(shape, k, dtype).form, verdict(shape, k, dtype)[1]
    wgrads = dense_wgrads(target, shape, dtype) if form in ("full", DENSE) else 0
    return {"path": path, "method": method.label, "form": form, "why": why, "wgrads": wgrads}


@cache
def dense_wgrads(target: Target, shape: ConvShape, dtype: str) -> int:
    """cuDNN calls in the dense weight gradient by itself: one, but none where it is written as matrix products."""
    return target.compile(estimator(make("full"), shape), *operands(shape, dtype)).convolutions["wgrad"]
