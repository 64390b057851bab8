"""Who takes part in a case: our exact form, XLA's own, the method, and both gradients in one vjp, with `full` and with
the method; each a compiled program.

PyTorch's are in `torch_peer`. All of them take the same numbers and give the same arrays, so that one check does for
all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from approxtrain.bench.kernel_cases import Case
from approxtrain.bench.kernel_clock import TimedCall
from approxtrain.bench.machine import matmul_precision
from approxtrain_kernels import ConvShape, Method, conv, dense, weight_gradient
from approxtrain_kernels.methods.full import Full

ORDER = ("NHWC", "HWIO", "NHWC")
OPERANDS = {"wgrad": ("x", "dy"), "forward": ("x", "w"), "dgrad": ("dy", "w")}

Inputs = dict[str, jax.Array]
"""x `[N, H, W, Ci]`, w `[Kh, Kw, Ci, Co]` and dy `[N, Ho, Wo, Co]` of one convolution, in the case's dtype; and a
key, if its method draws numbers."""


@dataclass(frozen=True)
class KernelContender:
    """What is checked against float64, and then timed."""

    name: str
    parts: tuple[str, ...]
    """What it computes."""
    load: Callable[[Inputs], tuple[Any, ...]]
    """The operands, where and how it wants them."""
    run: Callable[..., Any]
    """Starts the work on the operands."""
    wait: Callable[[Any], Any]
    """Returns what `run` gave, once it is done."""
    arrays: Callable[[Any], tuple[np.ndarray, ...]]
    """That in float32, an array for each part: y and dx in NHWC, dw in HWIO."""

    def compute(self, operands: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        return self.arrays(self.wait(self.run(*operands)))

    def timed(self, sets: Sequence[Inputs]) -> TimedCall:
        """Its call on each of several sets of inputs."""
        loaded = [self.load(inputs) for inputs in sets]
        queues = jax.default_backend() == "gpu"
        by_kernel = len(self.parts) == 1
        return TimedCall(self.name, lambda number: self.run(*loaded[number]), self.wait, queues, by_kernel)


def programs(case: Case) -> Iterator[KernelContender]:
    """The contenders of a case that jax computes, compiled one after the other."""
    shape, part = case.shape, case.part
    yield compiled("ours", case, (part,), OPERANDS[part], _ours(shape, part))
    yield compiled("xla", case, (part,), OPERANDS[part], _stock(shape, part))
    if case.subject == "method":
        # An operand of its own: numbers drawn from a constant would be drawn while the program is compiled.
        drawn = ("key",) if "key" in case.method.needs else ()
        yield compiled("method", case, (part,), OPERANDS[part] + drawn, estimator(case.method, shape))
        both, keys = ("dgrad", "wgrad"), ("x", "w", "dy")
        yield compiled("vjp full", case, both, keys, _vjp(Full(), shape))
        yield compiled("vjp method", case, both, keys + drawn, _vjp(case.method, shape))


def compiled(
    name: str, case: Case, parts: tuple[str, ...], keys: tuple[str, ...], function: Callable[..., Any]
) -> KernelContender:
    """A jitted function of some of x, w and dy, compiled for the case's shapes and precision."""
    shapes = {"x": case.shape.x_shape, "w": case.shape.w_shape, "dy": case.shape.y_shape}
    with matmul_precision(case.precision):
        arrays = {name: jax.ShapeDtypeStruct(size, case.precision.dtype) for name, size in shapes.items()}
        arrays["key"] = jax.eval_shape(jax.random.key, 0)
        program = jax.jit(function).lower(*(arrays[key] for key in keys)).compile()
    return KernelContender(
        name,
        parts,
        load=lambda inputs: tuple(inputs[key] for key in keys),
        run=program,
        wait=jax.block_until_ready,
        arrays=lambda result: tuple(np.asarray(array, np.float32) for array in jax.tree.leaves(result)),
    )


def estimator(method: Method, shape: ConvShape) -> Callable[..., jax.Array]:
    """dw of x and dy, and of a key where the method draws numbers."""
    static = {"kernel_size": shape.kernel_size, "strides": shape.strides, "padding": shape.padding, "method": method}
    return lambda x, dy, key=None: weight_gradient(x, dy, key=key, **static)


def _ours(shape: ConvShape, part: str) -> Callable[..., jax.Array]:
    return estimator(Full(), shape) if part == "wgrad" else partial(getattr(dense, part), shape=shape)


def _stock(shape: ConvShape, part: str) -> Callable[..., Any]:
    """What a user of jax gets: the convolution, or what differentiating it gives, at the top level of a program."""

    def forward(x, w):
        return lax.conv_general_dilated(x, w, shape.strides, shape.padding, dimension_numbers=ORDER)

    def wgrad(x, dy):
        weight = jax.ShapeDtypeStruct(shape.w_shape, x.dtype)
        return jax.linear_transpose(lambda w: forward(x, w), weight)(dy)[0]

    def dgrad(dy, w):
        image = jax.ShapeDtypeStruct(shape.x_shape, w.dtype)
        return jax.linear_transpose(lambda x: forward(x, w), image)(dy)[0]

    return {"forward": forward, "wgrad": wgrad, "dgrad": dgrad}[part]


def _vjp(method: Method, shape: ConvShape) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """(dx, dw) as a training step takes them. Neither needs y, so y is not computed."""

    def gradients(x, w, dy, key=None):
        convolution = partial(conv, strides=shape.strides, padding=shape.padding, method=method, key=key)
        return jax.vjp(convolution, x, w)[1](dy)

    return gradients


def draw(case: Case, seed: int) -> Inputs:
    """x with the zeros that a ReLU leaves; dy normal; w normal, as large as He's rule makes it; in the case's dtype."""
    rng, shape = np.random.default_rng(seed), case.shape
    x = np.maximum(rng.standard_normal(shape.x_shape, np.float32), 0)
    dy = rng.standard_normal(shape.y_shape, np.float32)
    inputs = shape.kernel_size[0] * shape.kernel_size[1] * shape.in_channels
    w = rng.standard_normal(shape.w_shape, np.float32) * np.float32((2 / inputs) ** 0.5)
    arrays = {name: jnp.asarray(array, case.precision.dtype) for name, array in {"x": x, "w": w, "dy": dy}.items()}
    return arrays | ({"key": jax.random.key(seed)} if "key" in case.method.needs else {})


def copies(inputs: Inputs, count: int) -> list[Inputs]:
    """`count` sets of the same numbers, each in memory of its own; the first is `inputs`."""
    more = [{name: jnp.array(array, copy=True) for name, array in inputs.items()} for _ in range(count - 1)]
    return [inputs, *jax.block_until_ready(more)]
