"""What a GPU would be given to run, found out without one: our kernels' needs, and what a training step consists of.

Compiled, not run: nothing here is a time or a result. What each check demands is in the `problems` of its report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import jax

from approxtrain.bench.kernel_contenders import estimator
from approxtrain.bench.step_bench import StepBench
from approxtrain_cli.bench_kernel_tables import describe
from approxtrain_kernels import ConvShape, Method
from approxtrain_kernels.methods import make
from approxtrain_kernels.pallas.choose import choose, plans, verdict
from approxtrain_kernels.pallas.model import Plan
from approxtrain_kernels.pallas.wgrad import estimate
from tools.gpu.program import Program, Resources
from tools.gpu.target import Target, assemble

DENSE = "dense"
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

    def __str__(self) -> str:
        needs = self.resources
        spill = f"SPILLS {needs.spill_store_bytes}+{needs.spill_load_bytes} B" if needs.spills else "no spills"
        return (
            f"{self.name:<16} {needs.registers:3d} registers, {spill}, {needs.stack_bytes} B stack, "
            f"{self.shared_bytes + needs.static_shared_bytes} B shared, grid {'×'.join(map(str, self.grid))}, "
            f"{self.warps} warps, {self.warps_at_a_time}/64 at a time"
        )


@dataclass(frozen=True)
class CompiledForm:
    """One form of `approx` for one shape and type, compiled by itself."""

    shape: ConvShape
    dtype: str
    plan: Plan
    chosen: bool
    kernels: tuple[Kernel, ...]
    convolutions: dict[str, int]
    launches: int
    error: str = ""
    """Why it does not compile; empty where it does."""

    @property
    def what(self) -> str:
        """ "256→256 8×8 k3 s1"."""
        return describe(asdict(self.shape))

    @property
    def problems(self) -> list[str]:
        # A spill of a form that no layer takes is shown, but harms nobody.
        problems = [f"{kernel.name} spills" for kernel in self.kernels if kernel.resources.spills and self.chosen]
        if self.error:
            problems.append(f"it does not compile: {self.error}")
        elif self.plan.form != DENSE and not self.kernels:
            problems.append("no kernel of ours is in the program")
        elif self.plan.form != DENSE and self.convolutions["wgrad"]:
            problems.append("cuDNN's weight gradient is in the program")
        return [f"{self.what} {self.dtype} {self.plan.form}: {problem}" for problem in problems]


def forms(target: Target, ptxas: Path, shapes: Sequence[ConvShape], dtypes: Sequence[str]) -> Iterator[CompiledForm]:
    """Each form that there is of `approx` with k = 1, for each shape and type."""
    for dtype, shape in product(dtypes, shapes):
        for plan in plans(shape, 1, dtype):
            of = (shape, dtype, plan, plan.form == choose(shape, 1, dtype).form)
            try:
                program = target.compile(partial(estimate, shape=shape, k=1, plan=plan), *_operands(shape, dtype))
            except jax.errors.JaxRuntimeError as error:
                yield CompiledForm(*of, (), {}, 0, str(error).splitlines()[0])
            else:
                yield CompiledForm(*of, tuple(kernels(program, ptxas)), program.convolutions, len(program.launched))


def kernels(program: Program, ptxas: Path) -> Iterator[Kernel]:
    """Our kernels in a program, each once."""
    for name in dict.fromkeys(call.kernel for call in program.pallas_calls):
        for thunk in dict.fromkeys(program.launches(name)):
            needs = assemble(ptxas, program.ptx[thunk.name])[thunk.name]
            yield Kernel(thunk.name, thunk.grid, thunk.threads // 32, thunk.shared_bytes, needs)


@dataclass(frozen=True)
class CompiledLayer:
    """A convolution as the step has it. `form` is `full` or a form of `approx`; empty where dW is not computed."""

    path: str
    method: str
    form: str
    why: str
    wgrads: int
    """cuDNN calls that its weight gradient takes in that form."""


@dataclass(frozen=True)
class CompiledStep:
    """A whole training step of one column."""

    config: str
    precision: str
    column: int
    layers: tuple[CompiledLayer, ...]
    convolutions: dict[str, int]
    calls: dict[str, int]
    """Kernel of ours → how often it is launched."""
    before: dict[str, list[str]]
    """Call of ours → the transposes that make an operand of it; `after`: those that take its result."""
    after: dict[str, list[str]]
    kernels: tuple[Kernel, ...]
    launched: dict[str, int]
    """Kind of thunk → how many."""

    @property
    def problems(self) -> list[str]:
        problems = [f"{name} stands before {call}" for call, names in self.before.items() for name in names]
        problems += [f"{name} stands after {call}" for call, names in self.after.items() for name in names]
        problems += [f"{kernel.name} spills" for kernel in self.kernels if kernel.resources.spills]
        expected = sum(layer.wgrads for layer in self.layers)
        if self.convolutions["wgrad"] != expected:
            problems.append(f"{self.convolutions['wgrad']} dense weight gradients where {expected} are due")
        due = Counter(f"approx_{layer.form}" for layer in self.layers if layer.form not in ("", "full", DENSE))
        for name in sorted({*due, *self.calls} - {"approx_select"}):
            if (calls := self.calls.get(name, 0)) != due[name]:
                problems.append(f"{calls} calls of {name} where {due[name]} are due")
        compiled = [kernel.name for kernel in self.kernels]
        missing = [name for name in self.calls if not any(each.startswith(name) for each in compiled)]
        problems += [f"no compiled kernel was found for {name}" for name in missing]
        return [f"{self.config} {self.precision} column {self.column}: {problem}" for problem in problems]


def steps(target: Target, ptxas: Path, name: str, bench: StepBench) -> Iterator[CompiledStep]:
    """The step of each distinct column of a configuration's schedule, as `train` would compile it."""
    schedule, train = bench.schedule(bench.config.schedule), bench.config.train
    dispatch, state, order = bench.dispatch(schedule)
    for column, methods in enumerate(schedule.columns):
        step = dispatch.step_function(column)
        program = target.compile(step, state, bench.images, order, dispatch.keys, donate=(0,))
        layers = [
            _layer(target, layer.path, method, replace(layer.shape, batch=train.batch_size), train.precision)
            for layer, method in zip(bench.model.layers, methods, strict=True)
        ]
        beside = {call.name: program.transposes(call) for call in program.pallas_calls}
        yield CompiledStep(
            config=name,
            precision=train.precision,
            column=column,
            layers=tuple(layers),
            convolutions=program.convolutions,
            calls=dict(Counter(call.kernel for call in program.pallas_calls)),
            before={call: before for call, (before, _) in beside.items() if before},
            after={call: after for call, (_, after) in beside.items() if after},
            kernels=tuple(kernels(program, ptxas)),
            launched=dict(Counter(thunk.kind for thunk in program.launched)),
        )


def _layer(target: Target, path: str, method: Method, shape: ConvShape, dtype: str) -> CompiledLayer:
    """The form in which a cell computes dW, and why."""
    if method.name not in ("full", "approx"):
        return CompiledLayer(path, method.label, "", "", 0)
    form, why, k = "full", "", method.params.get("k")
    if k is not None:
        form, why = choose(shape, k, dtype).form, verdict(shape, k, dtype)[1]
    return CompiledLayer(path, method.label, form, why, _wgrads(target, shape, dtype) if form in ("full", DENSE) else 0)


@cache
def _wgrads(target: Target, shape: ConvShape, dtype: str) -> int:
    """cuDNN calls in the dense weight gradient by itself: one, but none where it is written as matrix products."""
    return target.compile(estimator(make("full"), shape), *_operands(shape, dtype)).convolutions["wgrad"]


def _operands(shape: ConvShape, dtype: str) -> list[jax.ShapeDtypeStruct]:
    """x and dy."""
    return [jax.ShapeDtypeStruct(size, dtype) for size in (shape.x_shape, shape.y_shape)]


def as_json(report: CompiledForm | CompiledStep) -> dict[str, Any]:
    """All of a report, with what is computed from it."""
    kernels = [asdict(kernel) | {"warps_at_a_time": kernel.warps_at_a_time} for kernel in report.kernels]
    return asdict(report) | {"kernels": kernels, "problems": report.problems}
