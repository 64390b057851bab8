"""`corrected`: `pooled`, and of one image in q what that misses, times q. Unbiased: pooling is its control variate.

    A dO    every r×r block of dO replaced by its mean
    b       uniform in 0, …, q − 1, drawn once for the layer and step
    dO'     A dO + q · (dO − A dO)   of the images n ≡ b (mod q);   A dO of the others
    dW      = Σ x ∗ dO'              E[dW] is the exact one

What varies slowly over a map is most of a gradient, and comes from all images; the rest, which `pooled` never gives, so
that the error adds up over a run, comes from few images and with noise. With h_b the sum of x ∗ (dO − A dO) over the
images n ≡ b, the expected square of dW less the exact one is q Σ_b |h_b|² − |Σ_b h_b|².

Operations: 1/r² + 1/q of the exact product, both dense. A batch that q does not divide is filled up with zeros. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from approxtrain_kernels.method import Method, refuse_unless_whole
from approxtrain_kernels.methods.pooled import Pooled


@dataclass(frozen=True)
class Corrected(Method):
    r: int = 2
    q: int = 4

    name = "corrected"
    summary = "pooled, and of one image in q, drawn afresh, what that misses, q times: unbiased, dense"
    colour = "#6a4ba3"
    needs = frozenset({"x", "dy", "key"})

    def __post_init__(self) -> None:
        refuse_unless_whole("r", self.r, "the side of a block")
        refuse_unless_whole("q", self.q, "of so many images one is drawn")

    def few(self, shape):
        """The convolution of the images that are drawn."""
        return replace(shape, batch=-(-shape.batch // self.q))

    def flops(self, shape):
        few = self.few(shape)
        return Pooled(self.r).flops(shape) + few.flops + 2 * prod(few.y_shape)

    def draw(self, key):
        """b."""
        import jax

        return jax.random.randint(key, (), 0, self.q)

    def estimate(self, x, dy, *, shape, key):
        from approxtrain_kernels import blocks, dense, pooling
        from approxtrain_kernels.replicas import first_image

        b = (self.draw(key) - first_image(shape)) % self.q
        few_x, few_dy = (_every(image, self.q, b) for image in (x, dy))
        missed = few_dy - blocks.copies(blocks.means(few_dy, self.r), self.r, few_dy.shape)
        return pooling.wgrad(x, dy, shape, self.r) + self.q * dense.wgrad(few_x, missed, self.few(shape))

    def oracle(self, x, dy, shape, key=None):
        import numpy as np

        from approxtrain_kernels import blocks, exact

        smooth, drawn = blocks.projected(dy, self.r), np.s_[int(self.draw(key)) :: self.q]
        smooth[drawn] += self.q * (dy[drawn] - smooth[drawn])
        return exact.wgrad(x, smooth, shape)


def _every(images, q, b):
    """Images b, b + q, …, of a batch that is filled up with zeros."""
    import jax.numpy as jnp
    from jax import lax

    n, *size = images.shape
    count = -(-n // q)
    whole = jnp.pad(images, ((0, count * q - n), *((0, 0) for _ in size)))
    return lax.dynamic_index_in_dim(whole.reshape(count, q, *size), b, 1, keepdims=False)
