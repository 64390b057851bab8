"""`full`: the exact weight gradient.

dW[i, j, ci, co] = Σ_{n, p, q}  x[n, p·s + i − lo, q·s + j − lo, ci] · dO[n, p, q, co]
"""

from __future__ import annotations

from dataclasses import dataclass

from approxtrain_kernels.method import Method


@dataclass(frozen=True)
class Full(Method):
    name = "full"
    summary = "the exact weight gradient"
    colour = "#1f2933"
    needs = frozenset({"x", "dy"})

    def flops(self, shape):
        return shape.flops

    def estimate(self, x, dy, *, shape, key):
        from approxtrain_kernels import dense

        return dense.wgrad(x, dy, shape)

    def oracle(self, x, dy, shape, key=None):
        from approxtrain_kernels import exact

        return exact.wgrad(x, dy, shape)
