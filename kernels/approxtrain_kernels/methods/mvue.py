"""`mvue`: the unbiased counterpart of `approx`: of each plane k entries, drawn by their size, stand for all of it.

For each image n and output channel c, with S = Σ |dO[n, :, :, c]| and u uniform in [0, 1), drawn for the plane:

    j_m    the entry in which the running sum of |dO|, in row-major order, passes S · (m + u) / k    m = 0, …, k − 1
    dO'    Σ_m  sign(dO[j_m]) · S / k   in the place of j_m
    dW     Σ x ∗ dO'                    E[dW] is the exact one

An entry is drawn |dO| · k / S times in the mean, so that E[dO'] = dO. With k = 1 no unbiased rule that keeps one entry
has a smaller variance (Chmiel et al., *Minimum Variance Unbiased N:M Sparsity for the Neural Gradients*, ICLR 2023);
with more, the points are spread evenly over the running sum (systematic sampling), which is better than k draws. A
plane of zeros adds nothing, a NaN in it reaches dW[..., c].
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from approxtrain_kernels.method import Method, refuse_unless_whole


@dataclass(frozen=True)
class Mvue(Method):
    k: int = 1

    name = "mvue"
    summary = "k entries of each image and channel, drawn by |dO|: the unbiased counterpart of approx"
    colour = "#007a99"
    needs = frozenset({"x", "dy", "key"})

    def __post_init__(self) -> None:
        refuse_unless_whole("k", self.k, "the entries drawn of each plane")

    def flops(self, shape):
        n, ho, wo, _ = shape.y_shape
        look = 3 * prod(shape.y_shape)  # |dO|, its running sum, compare
        return look + 2 * n * prod(shape.w_shape) * min(self.k, ho * wo)

    def draws(self, shape, key):
        """u of each plane: float32 [N, 1, Co]."""
        import jax

        from approxtrain_kernels.replicas import own_part, whole_batch

        return own_part(jax.random.uniform(key, (whole_batch(shape), 1, shape.out_channels)))

    def estimate(self, x, dy, *, shape, key):
        import jax.numpy as jnp

        from approxtrain_kernels import sparse
        from approxtrain_kernels.precision import wide

        n, ho, wo, co = shape.y_shape
        planes = wide(dy.reshape(n, ho * wo, co))
        running = jnp.cumsum(jnp.abs(planes), axis=1)  # [N, P, Co]
        total, u = running[:, -1:], self.draws(shape, key)
        position = [jnp.sum(running <= total * ((m + u) / self.k), axis=1, dtype=jnp.int32) for m in range(self.k)]
        position = jnp.minimum(jnp.stack(position, axis=1), ho * wo - 1)  # [N, k, Co]; rounding may pass the last one
        value = jnp.sign(jnp.take_along_axis(planes, position, axis=1)) * total / self.k
        return sparse.wgrad(x, position, value, shape, gather_on_cpu=ho * wo >= 8 * self.k)

    def oracle(self, x, dy, shape, key=None):
        import numpy as np

        from approxtrain_kernels import exact

        n, ho, wo, co = shape.y_shape
        planes = dy.reshape(n, ho * wo, co).astype(np.float64)
        u = np.asarray(self.draws(shape, key), np.float64)
        thinned = np.zeros_like(planes)
        for image, channel in np.ndindex(n, co):
            plane = planes[image, :, channel]
            running = np.cumsum(np.abs(plane))
            for m in range(self.k):
                j = min(
                    np.searchsorted(running, running[-1] * (m + u[image, 0, channel]) / self.k, "right"), len(plane) - 1
                )
                thinned[image, j, channel] += np.sign(plane[j]) * running[-1] / self.k
        return exact.wgrad(x, thinned.reshape(shape.y_shape), shape)
