"""What `bench-kernel` is asked to measure: parts, shapes, dtypes, method. Imports no jax, so that it can be listed.

A case is one convolution at one precision. Its subject is what its row is about: the method, or with the method `full`
our own exact form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from approxtrain.errors import ConfigError
from approxtrain_kernels import ConvShape, Method
from approxtrain_kernels.shapes import BATCH, PAPER, parse

PARTS = {
    "wgrad": "the gradient of the weight",
    "forward": "the convolution itself",
    "dgrad": "the gradient of the input",
}


@dataclass(frozen=True)
class Precision:
    """A `--dtype`: what the arrays hold and how the products are rounded."""

    name: str
    dtype: str
    itemsize: int
    tolerance: float
    """Largest error, as a share of max |exact value|, that still counts as right."""
    matmul: str | None
    """jax's matmul precision on a GPU; a CPU computes every float32 product in float32."""
    summary: str


PRECISIONS = {
    each.name: each
    for each in (
        Precision("float32", "float32", 4, 1e-5, "highest", "float32, strict"),
        Precision("tf32", "float32", 4, 2e-3, "tensorfloat32", "float32 in memory, products in TF32; NVIDIA GPUs only"),
        Precision("bfloat16", "bfloat16", 2, 1e-2, None, "bfloat16"),
        Precision("float16", "float16", 2, 1e-2, None, "float16"),
    )
}


@dataclass(frozen=True)
class Case:
    """One row: a convolution, a precision, and a part of it."""

    shape: ConvShape
    precision: Precision
    part: str
    method: Method

    @property
    def subject(self) -> str:
        return "ours" if self.method.name == "full" else "method"

    def cost(self, contender: str) -> tuple[float, float]:
        """Operations, and bytes that have to be moved at least, of a contender; of a vjp, of its two parts together."""
        shape, size = self.shape, self.precision.itemsize
        moved = size * (prod(shape.x_shape) + prod(shape.y_shape) + prod(shape.w_shape))
        if contender == "method":
            return self.method.flops(shape), self.method.bytes(shape, size)
        if contender == "vjp method":
            flops = self.method.flops(shape) + self.method.dgrad_flops(shape)
            return flops, self.method.bytes(shape, size) + moved
        return (2 * shape.flops, 2 * moved) if contender == "vjp full" else (shape.flops, moved)


def cases(shapes: Sequence[str], dtypes: str, part: str, method: Method) -> tuple[Case, ...]:
    """Every shape at every precision, one precision after the other. Raises ConfigError."""
    if part not in PARTS:
        raise ConfigError(f"`--part` (={part!r}) must be one of {', '.join(PARTS)}.")
    names = list(dict.fromkeys(name.strip() for name in dtypes.split(",")))
    if unknown := [name for name in names if name not in PRECISIONS]:
        raise ConfigError(f"`--dtype` (={unknown[0]!r}) must be one of {', '.join(PRECISIONS)}, or some with commas.")
    if part != "wgrad" and method.name != "full":
        raise ConfigError(f"`--part {part}` times exact forms: leave out `--method` (={method.name!r}).")
    distinct = dict.fromkeys(shape for text in shapes for shape in _shapes(text))
    if not distinct:
        raise ConfigError(f"`--shapes` (={'; '.join(shapes)!r}) names no shape: paper, model:NAME or N,H,W,Ci,Co,K,S.")
    return tuple(Case(shape, PRECISIONS[name], part, method) for name in names for shape in distinct)


def _shapes(text: str) -> Iterator[ConvShape]:
    from approxtrain import models

    for part in filter(None, (part.strip() for part in text.split(";"))):
        try:
            if part == "paper":
                yield from PAPER
            elif part.startswith("model:"):
                layers = models.get(part.removeprefix("model:")).layers
                yield from (replace(layer.shape, batch=BATCH) for layer in layers)
            else:
                yield parse(part)
        except ValueError as error:
            raise ConfigError(f"`--shapes`: {error}") from None
