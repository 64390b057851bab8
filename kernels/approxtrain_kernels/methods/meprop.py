"""`meprop`: both gradients from the largest entries of dO of each image alone (meProp, Sun et al., ICML 2017).

    K_n          the ⌈q · Ho·Wo·Co⌉ entries of largest |dO[n, :, :, :]|; with those that equal the least of them
    dO'          dO in the places of K_n, 0 elsewhere
    dx, dW       dgrad(dO', w), wgrad(x, dO')

The entries lie anywhere, so that the products stay dense: no operation is saved here, and what is shown is what the
rule costs in accuracy. meProp thins the gradient of a hidden layer, in fully connected networks. Biased.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from approxtrain_kernels.method import Method, refuse_unless_share


@dataclass(frozen=True)
class Meprop(Method):
    q: float = 0.05

    name = "meprop"
    summary = "both gradients from the share q of each image's largest entries of dO (meProp): dense, saves nothing"
    colour = "#7d5fb2"
    needs = frozenset({"x", "dy"})

    def __post_init__(self) -> None:
        refuse_unless_share("q", self.q, "the share of entries kept")

    def flops(self, shape):
        return shape.flops + prod(shape.y_shape)

    def saves_nothing(self, shape):
        return {"any device": "because the entries lie anywhere and the products stay dense: it is there to compare"}

    def count(self, shape):
        return ceil(round(self.q * prod(shape.y_shape[1:]), 9))

    def gradients(self, kept, w, dy, *, shape, key):
        import jax.numpy as jnp

        from approxtrain_kernels import dense
        from approxtrain_kernels.precision import wide

        least = kth_largest(jnp.abs(wide(dy)).reshape(shape.batch, -1), self.count(shape))
        thinned = jnp.where(jnp.abs(dy) < least[:, None, None, None], 0, dy).astype(dy.dtype)  # a NaN stays
        return dense.dgrad(thinned, w, shape), dense.wgrad(kept, thinned, shape)

    def thinned(self, dy, shape):
        """dO' in float64."""
        import numpy as np

        size = np.abs(dy.astype(np.float64))
        least = np.sort(size.reshape(shape.batch, -1), axis=1)[:, -self.count(shape)]
        return np.where(size < least[:, None, None, None], 0, dy.astype(np.float64))

    def oracle(self, x, dy, shape, key=None):
        from approxtrain_kernels import exact

        return exact.wgrad(x, self.thinned(dy, shape), shape)

    def dgrad_oracle(self, x, w, dy, shape, key=None):
        from approxtrain_kernels import exact

        return exact.dgrad(self.thinned(dy, shape), w, shape)


def kth_largest(size, k):
    """Of each row of `size` [N, P], none of it negative: [N].

    Bits of such floats, read as whole numbers, are in the order of the floats. So the answer is found bit by bit, from
    the highest one on: it is set where at least k entries are as large. 31 passes, many times faster than `lax.top_k`
    is on a CPU, which sorts.
    """
    import jax.numpy as jnp
    from jax import lax

    whole = jnp.dtype(f"uint{8 * size.dtype.itemsize}")
    bits = lax.bitcast_convert_type(size, whole)
    highest = 8 * whole.itemsize - 2  # below the sign

    def with_bit(step, found):
        tried = found | (jnp.ones((), whole) << (highest - step).astype(whole))
        enough = jnp.sum(bits >= tried[:, None], axis=1, dtype=jnp.int32) >= k
        return jnp.where(enough, tried, found)

    found = lax.fori_loop(0, highest + 1, with_bit, jnp.zeros(len(size), whole))
    return lax.bitcast_convert_type(found, size.dtype)
