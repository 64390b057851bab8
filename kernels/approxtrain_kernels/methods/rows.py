"""`rows`: the exact weight gradient of one row of outputs in m, from a row drawn afresh, times m. Dense and unbiased.

    a            uniform in 0, …, m − 1, drawn once for the layer and step
    dO'[n,p,q,c] = m · dO[n,p,q,c]   where p ≡ a (mod m), else 0
    dW           = Σ x ∗ dO'         E[dW] is the exact one

1/m of the operations, in a dense product; a row lies in one piece in memory. On a map of fewer rows, m is their number.
Ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from approxtrain_kernels.method import Method, refuse_unless_whole


@dataclass(frozen=True)
class Rows(Method):
    m: int = 2

    name = "rows"
    summary = "one row of outputs in m, from one drawn afresh: unbiased, dense, m times smaller"
    colour = "#5b7f00"
    needs = frozenset({"x", "dy", "key"})

    def __post_init__(self) -> None:
        refuse_unless_whole("m", self.m, "one row in m is kept")

    def block(self, shape):
        """Rows and columns of outputs of which one is kept."""
        return min(self.m, shape.y_shape[1]), 1

    def flops(self, shape):
        rows, ho = self.block(shape)[0], shape.y_shape[1]
        return shape.flops * -(-ho // rows) / ho

    def estimate(self, x, dy, *, shape, key):
        from approxtrain_kernels import subsampling

        return subsampling.wgrad(x, dy, shape, self.block(shape), key)

    def oracle(self, x, dy, shape, key=None):
        from approxtrain_kernels import subsampling

        return subsampling.oracle(x, dy, shape, self.block(shape), key)
