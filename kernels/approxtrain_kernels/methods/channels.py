"""`channels`: both gradients from the output channels with the largest mean |dO| alone (ssProp, Zhong et al. 2024).

    K        the ⌈q · Co⌉ channels of largest Σ_{n,p,q} |dO[n, p, q, c]|, of equal ones the first
    dO'      dO in the channels of K, 0 in the others
    dx, dW   dgrad(dO', w), wgrad(x, dO')

Both are dense products with a share q of the operations. Biased: a channel that is left out gets no gradient, and hands
none down. ssProp alternates such steps, or epochs, with exact ones: `steps` and `epochs` of a rule say which.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from approxtrain_kernels.method import Method, refuse_unless_share


@dataclass(frozen=True)
class Channels(Method):
    q: float = 0.2

    name = "channels"
    summary = "both gradients from the share q of output channels of largest |dO| (ssProp)"
    colour = "#b03060"
    needs = frozenset({"x", "dy"})

    def __post_init__(self) -> None:
        refuse_unless_share("q", self.q, "the share of channels kept")

    def kept(self, shape):
        """How many output channels are kept."""
        return ceil(round(self.q * shape.out_channels, 9))

    def flops(self, shape):
        return shape.flops * self.kept(shape) / shape.out_channels

    def dgrad_flops(self, shape):
        return self.flops(shape)

    def gradients(self, kept, w, dy, *, shape, key):
        import jax.numpy as jnp
        from jax import lax

        from approxtrain_kernels import dense
        from approxtrain_kernels.geometry import conv_shape
        from approxtrain_kernels.precision import wide
        from approxtrain_kernels.replicas import total

        x, count = kept, self.kept(shape)
        size = total(jnp.abs(wide(dy)).sum((0, 1, 2)))
        _, chosen = lax.top_k(jnp.where(jnp.isnan(size), jnp.inf, size), count)  # a NaN is seen, not left out
        fewer = conv_shape(shape.x_shape, count, shape.kernel_size, shape.strides, shape.padding)
        some = dy[..., chosen]
        dw = dense.wgrad(x, some, fewer)
        return dense.dgrad(some, w[..., chosen], fewer), jnp.zeros(shape.w_shape, dw.dtype).at[..., chosen].set(dw)

    def thinned(self, dy, shape):
        """dO' in float64."""
        import numpy as np

        dy = dy.astype(np.float64)
        chosen = np.argsort(-np.abs(dy).sum((0, 1, 2)), kind="stable")[: self.kept(shape)]
        kept = np.zeros_like(dy)
        kept[..., chosen] = dy[..., chosen]
        return kept

    def oracle(self, x, dy, shape, key=None):
        from approxtrain_kernels import exact

        return exact.wgrad(x, self.thinned(dy, shape), shape)

    def dgrad_oracle(self, x, w, dy, shape, key=None):
        from approxtrain_kernels import exact

        return exact.dgrad(self.thinned(dy, shape), w, shape)
