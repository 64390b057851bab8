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
import jax.numpy as jnp

from approxtrain import models
from approxtrain.bench.contenders import estimator
from approxtrain.config import Config, steps_per_epoch
from approxtrain.schedule import Schedule
from approxtrain.training.batch import Images, Keys
from approxtrain.training.dispatch import Dispatch
from approxtrain.training.step import set_up
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

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"warps_at_a_time": self.warps_at_a_time}


@dataclass(frozen=True)
class Form:
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
        """ "256→256 8×8 k3"."""
        shape = self.shape
        return f"{shape.in_channels}→{shape.out_channels} {shape.height}×{shape.width} k{shape.kernel_size[0]}"

    @property
    def problems(self) -> list[str]:
        where = f"{self.what} {self.dtype} {self.plan.form}"
        if self.error:
            return [f"{where}: it does not compile: {self.error}"]
        # A spill of a form that no layer takes is shown, but harms nobody.
        spilling = [kernel.name for kernel in self.kernels if kernel.resources.spills and self.chosen]
        found = [f"{where}: {name} spills" for name in spilling]
        if self.plan.form != DENSE and not self.kernels:
            found.append(f"{where}: no kernel of ours is in the program")
        if self.plan.form != DENSE and self.convolutions["wgrad"]:
            found.append(f"{where}: cuDNN's weight gradient is in the program")
        return found

    def as_json(self) -> dict[str, Any]:
        return {
            "shape": asdict(self.shape),
            "dtype": self.dtype,
            "plan": asdict(self.plan),
            "chosen": self.chosen,
            "kernels": [kernel.as_json() for kernel in self.kernels],
            "convolutions": self.convolutions,
            "launches": self.launches,
            "error": self.error,
            "problems": self.problems,
        }


def forms(target: Target, ptxas: Path, shapes: Sequence[ConvShape], dtypes: Sequence[str]) -> Iterator[Form]:
    """Each form that there is of `approx` with k = 1, for each shape and type."""
    for dtype in dtypes:
        for shape in shapes:
            chosen = choose(shape, 1, dtype)
            for plan in plans(shape, 1, dtype):
                yield _form_alone(target, ptxas, shape, dtype, plan, plan.form == chosen.form)


def _form_alone(target: Target, ptxas: Path, shape: ConvShape, dtype: str, plan: Plan, chosen: bool) -> Form:
    x, dy = (jax.ShapeDtypeStruct(size, dtype) for size in (shape.x_shape, shape.y_shape))
    try:
        program = target.compile(partial(estimate, shape=shape, k=1, plan=plan), x, dy)
    except jax.errors.JaxRuntimeError as error:
        return Form(shape, dtype, plan, chosen, (), {}, 0, str(error).splitlines()[0])
    found = tuple(kernels(program, ptxas))
    return Form(shape, dtype, plan, chosen, found, program.convolutions, len(program.launched))


def kernels(program: Program, ptxas: Path) -> Iterator[Kernel]:
    """Our kernels in a program, each once."""
    for name in dict.fromkeys(call.kernel for call in program.pallas_calls):
        for thunk in dict.fromkeys(program.launches(name)):
            found = assemble(ptxas, program.ptx[thunk.name])[thunk.name]
            yield Kernel(thunk.name, thunk.grid, thunk.threads // 32, thunk.shared_bytes, found)


@dataclass(frozen=True)
class Layer:
    """A convolution as the step has it. `form` is `full` or a form of `approx`; empty where dW is not computed."""

    path: str
    method: str
    form: str
    why: str
    wgrads: int
    """cuDNN calls that its weight gradient takes in that form."""


@dataclass(frozen=True)
class Step:
    """A whole training step of one column."""

    config: str
    precision: str
    column: int
    layers: tuple[Layer, ...]
    convolutions: dict[str, int]
    calls: dict[str, int]
    """Kernel of ours → how often it is launched."""
    before: dict[str, list[str]]
    """Call of ours → the transposes that make an operand of it."""
    after: dict[str, list[str]]
    """Call of ours → the transposes that take its result; those inside of the optimiser's fusion cost no launch."""
    kernels: tuple[Kernel, ...]
    launched: dict[str, int]
    """Kind of thunk → how many."""

    @property
    def problems(self) -> list[str]:
        where = f"{self.config} {self.precision} column {self.column}"
        found = [f"{where}: {name} stands before {call}" for call, names in self.before.items() for name in names]
        for call, names in self.after.items():
            found += [f"{where}: {name} stands after {call}" for name in names if "/" not in name]
        found += [f"{where}: {kernel.name} spills" for kernel in self.kernels if kernel.resources.spills]
        expected = sum(layer.wgrads for layer in self.layers)
        if self.convolutions["wgrad"] != expected:
            found.append(f"{where}: {self.convolutions['wgrad']} dense weight gradients where {expected} are due")
        ours = Counter(layer.form for layer in self.layers if layer.form not in ("", "full", DENSE))
        for form in sorted({*ours, *(name.removeprefix("approx_") for name in self.calls)} - {"select"}):
            if (calls := self.calls.get(f"approx_{form}", 0)) != ours[form]:
                found.append(f"{where}: {calls} calls of approx_{form} where {ours[form]} are due")
        for name in self.calls:
            if not any(kernel.name.startswith(name) for kernel in self.kernels):
                found.append(f"{where}: no compiled kernel was found for {name}")
        return found

    def as_json(self) -> dict[str, Any]:
        rest = {"kernels": [kernel.as_json() for kernel in self.kernels], "problems": self.problems}
        return asdict(self) | rest


def steps(target: Target, ptxas: Path, name: str, config: Config) -> Iterator[Step]:
    """The step of each distinct column of a configuration's schedule, as `train` would compile it."""
    model, per_epoch, keys = models.get(config.model.name), steps_per_epoch(config), Keys.of(config.train.seed)
    schedule = Schedule.from_config(config.schedule, model.layers, per_epoch)
    task, state = set_up(model, config, per_epoch, keys.init)
    batch, augment, dtype = config.train.batch_size, config.train.augment, config.train.precision
    dispatch = Dispatch(task, schedule, keys, batch_size=batch, augment=augment, mode="host")
    images, order = _data(per_epoch * batch, model.image_shape)
    wgrads: dict[ConvShape, int] = {}
    for column, methods in enumerate(schedule.columns):
        program = target.compile(dispatch.step_function(column), state, images, order, keys, donate=(0,))
        layers = []
        for layer, method in zip(model.layers, methods, strict=True):
            shape = replace(layer.shape, batch=batch)
            form, why = _form(method, shape, dtype)
            if form in ("full", DENSE) and shape not in wgrads:
                wgrads[shape] = _wgrads(target, shape, dtype)
            layers.append(Layer(layer.path, method.label, form, why, wgrads[shape] if form in ("full", DENSE) else 0))
        calls = program.pallas_calls
        yield Step(
            config=name,
            precision=dtype,
            column=column,
            layers=tuple(layers),
            convolutions=program.convolutions,
            calls=dict(Counter(call.kernel for call in calls)),
            before={call.name: found for call in calls if (found := program.transposes(call)[0])},
            after={call.name: found for call in calls if (found := program.transposes(call)[1])},
            kernels=tuple(kernels(program, ptxas)),
            launched=dict(Counter(thunk.kind for thunk in program.launched)),
        )


def _form(method: Method, shape: ConvShape, dtype: str) -> tuple[str, str]:
    """The form in which a cell computes dW, and why."""
    if method == make("full"):
        return "full", ""
    if method.name != "approx":
        return "", ""
    k = method.params["k"]
    return choose(shape, k, dtype).form, verdict(shape, k, dtype)[1]


def _wgrads(target: Target, shape: ConvShape, dtype: str) -> int:
    """cuDNN calls in the dense weight gradient by itself: one, but none where it is written as matrix products."""
    x, dy = (jax.ShapeDtypeStruct(size, dtype) for size in (shape.x_shape, shape.y_shape))
    return target.compile(estimator(make("full"), shape), x, dy).convolutions["wgrad"]


def _data(size: int, image: tuple[int, int, int]) -> tuple[Images, Any]:
    of: Any = jax.ShapeDtypeStruct
    statistics = of(image[2:], jnp.float32)
    images = Images(of((size, *image), jnp.uint8), of((size,), jnp.int32), statistics, statistics)
    return images, of((size,), jnp.int32)
