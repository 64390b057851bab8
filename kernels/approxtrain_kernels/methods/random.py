"""`random`: dW[i, j, ci, co] ~ Normal(0, (1/N)²), drawn afresh for every layer and step (Wang & Nelaturu 2019, 2.2).

N is the batch size: the paper's 1/128 at its batch of 128. The caller folds the step and the layer into the key.
"""

from __future__ import annotations

from dataclasses import dataclass

from approxtrain_kernels.method import Method


@dataclass(frozen=True)
class Random(Method):
    name = "random"
    summary = "normal noise of standard deviation 1/batch, drawn afresh each step"
    colour = "#c44e00"
    needs = frozenset({"key"})

    def flops(self, shape):
        return 0  # integer work only: it writes dW and reads nothing

    def estimate(self, x, dy, *, shape, key):
        import jax

        from approxtrain_kernels.replicas import whole_batch

        return jax.random.normal(key, shape.w_shape) / whole_batch(shape)

    def oracle(self, x, dy, shape, key=None):
        """The same draws, divided in float64."""
        import jax
        import numpy as np

        return np.asarray(jax.random.normal(key, shape.w_shape), np.float64) / shape.batch
