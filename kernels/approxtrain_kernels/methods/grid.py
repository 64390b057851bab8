"""`grid`: the exact weight gradient of one output in s×s, at an offset drawn afresh, times s². Dense and unbiased.

    a, b         uniform in 0, …, s − 1, drawn once for the layer and step
    dO'[n,p,q,c] = s² · dO[n,p,q,c]   where p ≡ a and q ≡ b (mod s), else 0
    dW           = Σ x ∗ dO'          E[dW] is the exact one

1/s² of the operations, in a dense product. On a map smaller than s, s is its size. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from approxtrain_kernels.method import Method, refuse_unless_whole


@dataclass(frozen=True)
class Grid(Method):
    s: int = 2

    name = "grid"
    summary = "one output in s×s, at an offset drawn afresh: unbiased, dense, s² times smaller"
    colour = "#8a6d00"
    needs = frozenset({"x", "dy", "key"})

    def __post_init__(self) -> None:
        refuse_unless_whole("s", self.s, "the step of the grid")

    def block(self, shape):
        """Rows and columns of outputs of which one is kept."""
        _, ho, wo, _ = shape.y_shape
        return min(self.s, ho), min(self.s, wo)

    def flops(self, shape):
        (rows, columns), (_, ho, wo, _) = self.block(shape), shape.y_shape
        return shape.flops * -(-ho // rows) * -(-wo // columns) / (ho * wo)

    def estimate(self, x, dy, *, shape, key):
        from approxtrain_kernels import subsampling

        return subsampling.wgrad(x, dy, shape, self.block(shape), key)

    def oracle(self, x, dy, shape, key=None):
        from approxtrain_kernels import subsampling

        return subsampling.oracle(x, dy, shape, self.block(shape), key)
