"""`zero`: dW = 0 (Wang & Nelaturu 2019, 2.1).

It is a zero *gradient*, not a frozen layer: an optimiser with momentum goes on moving the weight. `skip` freezes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from approxtrain_kernels.method import Method


@dataclass(frozen=True)
class Zero(Method):
    name = "zero"
    summary = "a zero gradient; Adam's moments still move the weight"
    colour = "#0072b2"
    needs = frozenset()

    def flops(self, shape):
        return 0

    def estimate(self, x, dy, *, shape, key):
        import jax.numpy as jnp

        return jnp.zeros(shape.w_shape)

    def oracle(self, x, dy, shape, key=None):
        import numpy as np

        return np.zeros(shape.w_shape)
