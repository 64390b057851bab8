"""`pooled`: the exact weight gradient of dO with every r×r block replaced by its mean. Dense, and r² times cheaper.

    dO'[n, p, q, c] = mean of dO[n, ·, ·, c] over the block (p // r, q // r)
    dW              = Σ x ∗ dO'

A block at the edge that is not whole averages what it has. dO' is the same all over a block, so that the sum over a
block can be taken of x alone, and the product runs over blocks, with m the block means of dO:

    dW[i, j, ci, co] = Σ_{n, P, Q}  m[n, P, Q, co] · Σ_{p, q in block (P, Q)} x[n, p·s + i − lo, q·s + j − lo, ci]

The inner sums for all taps are one image of box sums, S[h, w] = Σ_{a, b < r} x[h + a·s, w + b·s]; what remains is the
weight gradient of a convolution of S with stride r·s: a dense product with 1/r² of the operations, which tensor cores
take as well. Ours; not in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from approxtrain_kernels.method import Method, refuse_unless_whole


@dataclass(frozen=True)
class Pooled(Method):
    r: int = 2

    name = "pooled"
    summary = "the exact weight gradient of dO's r×r block means: a dense product, r² times smaller"
    colour = "#a8508a"
    needs = frozenset({"x", "dy"})

    def __post_init__(self) -> None:
        refuse_unless_whole("r", self.r, "the side of a block")

    def flops(self, shape):
        (rows, cols), adds = self._blocks(shape), 2 * (self.r - 1)
        _, ho, wo, _ = shape.y_shape
        sums = adds * prod(shape.x_shape) + prod(shape.y_shape)
        return sums + shape.flops * rows * cols / (ho * wo)

    def estimate(self, x, dy, *, shape, key):
        from approxtrain_kernels import pooling

        return pooling.wgrad(x, dy, shape, self.r)

    def oracle(self, x, dy, shape, key=None):
        from approxtrain_kernels import blocks, exact

        return exact.wgrad(x, blocks.projected(dy, self.r), shape)

    def _blocks(self, shape):
        """Rows and columns of blocks."""
        _, ho, wo, _ = shape.y_shape
        return -(-ho // self.r), -(-wo // self.r)
