"""What a network is: a list of operations with the shapes that flow through them. Imports no jax.

The operations carry a path, which names their parameters; the convolutions among them, in forward order and counted
from 1, are the *layers* of a schedule. `network.Network` runs the same list with arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from approxtrain_kernels import ConvShape, conv_shape

Shape = tuple[int, ...]  # without the batch


@dataclass(frozen=True)
class Conv:
    """k×k convolution, SAME padding, no bias unless asked for."""

    path: str
    channels: int
    kernel: int = 3
    stride: int = 1
    bias: bool = False


@dataclass(frozen=True)
class BatchNorm:
    path: str


@dataclass(frozen=True)
class Relu:
    pass


@dataclass(frozen=True)
class MaxPool:
    """window×window maximum, SAME padding."""

    window: int
    stride: int


@dataclass(frozen=True)
class Residual:
    """body(x) + shortcut(x). The shortcut has no parameters: every stride-th pixel, new channels filled with zeros."""

    body: tuple[Op, ...]


@dataclass(frozen=True)
class GlobalMean:
    """Mean over height and width."""


@dataclass(frozen=True)
class Flatten:
    pass


@dataclass(frozen=True)
class Dense:
    path: str
    units: int


Op = Conv | BatchNorm | Relu | MaxPool | Residual | GlobalMean | Flatten | Dense


@dataclass(frozen=True)
class ConvLayer:
    """One convolution as a schedule sees it. `shape.batch` is 1: multiply by the batch."""

    number: int
    path: str
    shape: ConvShape

    @property
    def stride(self) -> int:
        return self.shape.strides[0]


@dataclass(frozen=True)
class Model:
    """A named network for images of shape (H, W, C)."""

    name: str
    summary: str
    ops: tuple[Op, ...]
    image_shape: tuple[int, int, int] = (32, 32, 3)

    @cached_property
    def layers(self) -> tuple[ConvLayer, ...]:
        """The convolutions in forward order, numbered from 1."""
        convs = [(op, shape) for op, shape in walk(self.ops, self.image_shape) if isinstance(op, Conv)]
        return tuple(ConvLayer(i, op.path, _conv_shape(op, shape)) for i, (op, shape) in enumerate(convs, start=1))


def walk(ops: tuple[Op, ...], shape: Shape) -> Iterator[tuple[Op, Shape]]:
    """Each operation in forward order, the bodies of residuals unrolled, with the shape that flows into it."""
    for op in ops:
        if isinstance(op, Residual):
            yield from walk(op.body, shape)
        else:
            yield op, shape
        shape = _shape_after(op, shape)


def _shape_after(op: Op, shape: Shape) -> Shape:
    match op:
        case Conv():
            return _conv_shape(op, shape).y_shape[1:]
        case MaxPool():
            return (-(-shape[0] // op.stride), -(-shape[1] // op.stride), shape[2])
        case Residual():
            for inner in op.body:
                shape = _shape_after(inner, shape)
            return shape
        case GlobalMean():
            return (shape[2],)
        case Flatten():
            return (shape[0] * shape[1] * shape[2],)
        case Dense():
            return (op.units,)
        case BatchNorm() | Relu():
            return shape


def _conv_shape(op: Conv, shape: Shape) -> ConvShape:
    return conv_shape((1, *shape), op.channels, (op.kernel, op.kernel), (op.stride, op.stride))
