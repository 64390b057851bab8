"""What a GPU would be given to run, found out without one: our kernels' needs, and what a training step consists of.

Compiled, not run: nothing here is a time or a result. What each check demands is in the `problems` of its report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from approxtrain.bench.kernel_contenders import estimator
from approxtrain.bench.step_bench import StepBench
from approxtrain_cli.bench_kernel_tables import describe
from approxtrain_kernels import ConvShape, Method
from approxtrain_kernels.methods import make
from approxtrain_kernels.pallas.choose import choose, plans, verdict
from approxtrain_kernels.pallas.plan import Plan
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
        where = f"{self.what} {self.dtype} {self.plan.form}"
        if self.error:
            return [f"{where}: it does not compile: {self.error}"]
        # A spill of a form that no layer takes is shown, but harms nobody.
        spilling = [kernel.name for kernel in self.kernels if kernel.resources.spills and self.chosen]
        problems = [f"{where}: {name} spills" for name in spilling]
        if self.plan.form != DENSE and not self.kernels:
            problems.append(f"{where}: no kernel of ours is in the program")
        if self.plan.form != DENSE and self.convolutions["wgrad"]:
            problems.append(f"{where}: cuDNN's weight gradient is in the program")
        return problems


def forms(target: Target, ptxas: Path, shapes: Sequence[ConvShape], dtypes: Sequence[str]) -> Iterator[CompiledForm]:
    """Each form that there is of `approx` with k = 1, for each shape and type."""
    for dtype in dtypes:
        for shape in shapes:
            chosen = choose(shape, 1, dtype)
            for plan in plans(shape, 1, dtype):
                of = (shape, dtype, plan, plan.form == chosen.form)
                x, dy = (jax.ShapeDtypeStruct(size, dtype) for size in (shape.x_shape, shape.y_shape))
                try:
                    program = target.compile(partial(estimate, shape=shape, k=1, plan=plan), x, dy)
                except jax.errors.JaxRuntimeError as error:
                    yield CompiledForm(*of, (), {}, 0, str(error).splitlines()[0])
                else:
                    ours = tuple(kernels(program, ptxas))
                    yield CompiledForm(*of, ours, program.convolutions, len(program.launched))


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
    """Call of ours → the transposes that make an operand of it."""
    after: dict[str, list[str]]
    """Call of ours → the transposes that take its result."""
    kernels: tuple[Kernel, ...]
    launched: dict[str, int]
    """Kind of thunk → how many."""

    @property
    def problems(self) -> list[str]:
        where = f"{self.config} {self.precision} column {self.column}"
        problems = [f"{where}: {name} stands before {call}" for call, names in self.before.items() for name in names]
        problems += [f"{where}: {name} stands after {call}" for call, names in self.after.items() for name in names]
        problems += [f"{where}: {kernel.name} spills" for kernel in self.kernels if kernel.resources.spills]
        expected = sum(layer.wgrads for layer in self.layers)
        if self.convolutions["wgrad"] != expected:
            problems.append(f"{where}: {self.convolutions['wgrad']} dense weight gradients where {expected} are due")
        due = Counter(layer.form for layer in self.layers if layer.form not in ("", "full", DENSE))
        for form in sorted({*due, *(name.removeprefix("approx_") for name in self.calls)} - {"select"}):
            if (calls := self.calls.get(f"approx_{form}", 0)) != due[form]:
                problems.append(f"{where}: {calls} calls of approx_{form} where {due[form]} are due")
        for name in self.calls:
            if not any(kernel.name.startswith(name) for kernel in self.kernels):
                problems.append(f"{where}: no compiled kernel was found for {name}")
        return problems


def steps(target: Target, ptxas: Path, name: str, bench: StepBench) -> Iterator[CompiledStep]:
    """The step of each distinct column of a configuration's schedule, as `train` would compile it."""
    schedule, train = bench.schedule(bench.config.schedule), bench.config.train
    dispatch, state, order = bench.dispatch(schedule)
    for column, methods in enumerate(schedule.columns):
        step = dispatch.step_function(column)
        program = target.compile(step, state, bench.images, order, dispatch.keys, donate=(0,))
        shapes = [replace(layer.shape, batch=train.batch_size) for layer in bench.model.layers]
        layers = [
            _layer(target, layer.path, method, shape, train.precision)
            for layer, method, shape in zip(bench.model.layers, methods, shapes, strict=True)
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
    form, why = "full", ""
    if method.name == "approx":
        k = method.params["k"]
        form, why = choose(shape, k, dtype).form, verdict(shape, k, dtype)[1]
    return CompiledLayer(path, method.label, form, why, _wgrads(target, shape, dtype) if form in ("full", DENSE) else 0)


def _wgrads(target: Target, shape: ConvShape, dtype: str) -> int:
    """cuDNN calls in the dense weight gradient by itself: one, but none where it is written as matrix products."""
    x, dy = (jax.ShapeDtypeStruct(size, dtype) for size in (shape.x_shape, shape.y_shape))
    return target.compile(estimator(make("full"), shape), x, dy).convolutions["wgrad"]


def as_json(report: CompiledForm | CompiledStep) -> dict[str, Any]:
    """All of a report, with what is computed from it."""
    kernels = [asdict(kernel) | {"warps_at_a_time": kernel.warps_at_a_time} for kernel in report.kernels]
    return asdict(report) | {"kernels": kernels, "problems": report.problems}
