"""`full`: the exact weight gradient.

dW[i, j, ci, co] = Σ_{n, p, q}  x[n, p·s + i − lo, q·s + j − lo, ci] · dO[n, p, q, co]
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from approxtrain_kernels.method import Method


@dataclass(frozen=True)
class Full(Method):
    name = "full"
    summary = "the exact weight gradient"
    colour = "#1f2933"
    needs = frozenset({"x", "dy"})

    def flops(self, shape):
        return shape.flops

    def bytes(self, shape, itemsize):
        return itemsize * (prod(shape.x_shape) + prod(shape.y_shape) + prod(shape.w_shape))

    def estimate(self, x, dy, *, shape, dtype, key, implementation):
        from approxtrain_kernels import dense

        return dense.wgrad(x, dy, shape).astype(dtype)

    def oracle(self, x, dy, shape):
        import numpy as np

        padded = np.pad(x.astype(np.float64), ((0, 0), *shape.padding, (0, 0)))
        dy = dy.astype(np.float64)
        (kh, kw), (sh, sw), (_, ho, wo, _) = shape.kernel_size, shape.strides, shape.y_shape
        dw = np.empty(shape.w_shape)
        for i in range(kh):
            for j in range(kw):
                seen = padded[:, i : i + (ho - 1) * sh + 1 : sh, j : j + (wo - 1) * sw + 1 : sw]
                dw[i, j] = np.tensordot(seen, dy, axes=([0, 1, 2], [0, 1, 2]))
        return dw
