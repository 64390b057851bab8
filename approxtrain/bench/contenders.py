"""Who takes part in a case: our exact form, XLA's own, the method, and both inside of a vjp, each a compiled program.

PyTorch's are in `torch_peer`. All of them take the same numbers and give the same arrays, so that one check does for
all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from approxtrain.bench.machine import matmul_precision
from approxtrain.bench.plan import Case
from approxtrain_kernels import ConvShape, Method, conv, dense, weight_gradient
from approxtrain_kernels.methods.full import Full

ORDER = ("NHWC", "HWIO", "NHWC")
OPERANDS = {"wgrad": ("x", "dy"), "forward": ("x", "w"), "dgrad": ("dy", "w")}
RESULT = {"wgrad": "dw", "forward": "y", "dgrad": "dx"}

Inputs = dict[str, jax.Array]
"""x, w and dy of one convolution, in the case's dtype; and a key, if its method draws numbers."""


class Candidate(Protocol):
    """What is checked, and then timed."""

    name: str
    results: tuple[str, ...]
    """What it computes, out of y, dx and dw."""
    queues: bool
    by_kernel: bool

    def load(self, inputs: Inputs) -> tuple[Any, ...]:
        """The operands, where and how this candidate wants them."""
        ...

    def run(self, operands: tuple[Any, ...]) -> Any: ...

    def wait(self, result: Any) -> Any: ...

    def arrays(self, result: Any) -> tuple[np.ndarray, ...]:
        """`results` in float32, NHWC and HWIO."""
        ...


class Program:
    """A jitted function of some of x, w and dy, compiled for the case's shapes and precision."""

    def __init__(self, name: str, case: Case, keys: tuple[str, ...], results: tuple[str, ...], function: Any) -> None:
        self.name, self.keys, self.results = name, keys, results
        self.queues = jax.default_backend() == "gpu"
        self.by_kernel = len(results) == 1
        shapes = {"x": case.shape.x_shape, "w": case.shape.w_shape, "dy": case.shape.y_shape}
        with matmul_precision(case.precision):
            arrays = {name: jax.ShapeDtypeStruct(shape, case.precision.dtype) for name, shape in shapes.items()}
            arrays["key"] = jax.eval_shape(jax.random.key, 0)
            abstract = [arrays[key] for key in keys]
            self.program = jax.jit(function).lower(*abstract).compile()

    def load(self, inputs: Inputs) -> tuple[jax.Array, ...]:
        return tuple(inputs[key] for key in self.keys)

    def run(self, operands: tuple[jax.Array, ...]) -> Any:
        return self.program(*operands)

    def wait(self, result: Any) -> Any:
        return jax.block_until_ready(result)

    def arrays(self, result: Any) -> tuple[np.ndarray, ...]:
        return tuple(np.asarray(array, np.float32) for array in jax.tree.leaves(result))


def programs(case: Case) -> Iterator[Program]:
    """The contenders of a case, compiled one after the other."""
    shape, part = case.shape, case.part
    keys, result = OPERANDS[part], (RESULT[part],)
    yield Program("ours", case, keys, result, _ours(shape, part))
    yield Program("xla", case, keys, result, _stock(shape, part))
    if case.subject == "method":
        # An operand of its own: numbers drawn from a constant would be drawn while the program is compiled.
        drawn = ("key",) if "key" in case.method.needs else ()
        yield Program("method", case, keys + drawn, result, estimator(case.method, shape))
        yield Program("vjp full", case, ("x", "w", "dy"), ("dx", "dw"), _vjp(Full(), shape))
        yield Program("vjp method", case, ("x", "w", "dy", *drawn), ("dx", "dw"), _vjp(case.method, shape))


def estimator(method: Method, shape: ConvShape) -> Callable[..., jax.Array]:
    """dw of x and dy, and of a key where the method draws numbers."""
    static = {"kernel_size": shape.kernel_size, "strides": shape.strides, "padding": shape.padding, "method": method}
    return lambda x, dy, key=None: weight_gradient(x, dy, key=key, **static)


def _ours(shape: ConvShape, part: str) -> Callable[..., jax.Array]:
    if part == "wgrad":
        return estimator(Full(), shape)
    if part == "forward":
        return lambda x, w: dense.forward(x, w, shape)
    return lambda dy, w: dense.dgrad(dy, w, shape)


def _stock(shape: ConvShape, part: str) -> Callable[..., Any]:
    """What a user of jax gets: the convolution, or what differentiating it gives, at the top level of a program."""

    def convolution(x, w):
        return lax.conv_general_dilated(x, w, shape.strides, shape.padding, dimension_numbers=ORDER)

    if part == "forward":
        return convolution
    if part == "wgrad":

        def wgrad(x, dy):
            weight = jax.ShapeDtypeStruct(shape.w_shape, x.dtype)
            return jax.linear_transpose(lambda w: convolution(x, w), weight)(dy)[0]

        return wgrad

    def dgrad(dy, w):
        image = jax.ShapeDtypeStruct(shape.x_shape, w.dtype)
        return jax.linear_transpose(lambda x: convolution(x, w), image)(dy)[0]

    return dgrad


def _vjp(method: Method, shape: ConvShape) -> Callable[..., Any]:
    """Both gradients as a training step takes them. What it returns does not need y, so y is not computed."""

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
    arrays = {"x": x, "w": w, "dy": dy}
    inputs = {name: jnp.asarray(array, case.precision.dtype) for name, array in arrays.items()}
    return inputs | ({"key": jax.random.key(seed)} if "key" in case.method.needs else {})


def copies(inputs: Inputs, count: int) -> list[Inputs]:
    """`count` sets of the same numbers, each in memory of its own; the first is `inputs`."""
    more = [{name: jnp.array(array, copy=True) for name, array in inputs.items()} for _ in range(count - 1)]
    return [inputs, *jax.block_until_ready(more)]
