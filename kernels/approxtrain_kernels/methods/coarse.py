"""`coarse`: both gradients on images whose r×r blocks are replaced by their means: a convolution of a coarser grid.

With A the projection that puts its mean into every pixel of a block,

    dW = wgrad(A x, A dO)          dx = A dgrad(A dO, w)

Only the block means of x are kept for the backward pass, 1/r² of it. A block at the edge that is not whole averages
what it has. With R the means and P the copies, A = P R; and where the stride is 1, the output as large as the input,
and all blocks whole, R · conv_w · P is a convolution of the coarse grid by the Galerkin kernel of multigrid methods,

    T[I, J] = Σ_{i, j} M[I, i] M[J, j] w[i, j]      M[I, i] = share of a block's pixels u < r with (u + i − lo) // r = I

(of three taps and r = 2: [a, b, c] → [a/2, b + (a + c)/2, c/2]). Then dx = P dgrad(R dO, T), and dW is r² times the
transpose of w → T, of wgrad(R x, R dO): dense products with about 1/r² of the operations. Elsewhere A is applied and
nothing saved. Biased, as `pooled` is: no high frequencies, of dx either. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from approxtrain_kernels.method import Method, refuse_unless_whole


@dataclass(frozen=True)
class Coarse(Method):
    r: int = 2

    name = "coarse"
    summary = "both gradients on the grid of r×r block means, by the multigrid (Galerkin) kernel; keeps 1/r² of x"
    colour = "#8a6d00"
    needs = frozenset({"x", "dy"})

    def __post_init__(self) -> None:
        refuse_unless_whole("r", self.r, "the side of a block")

    def coarser(self, shape):
        """The convolution of the coarse grid that has the kernel T; None where there is none."""
        r, (_, ho, wo, _) = self.r, shape.y_shape
        fits = shape.strides == (1, 1) and (ho, wo) == (shape.height, shape.width) and ho % r == wo % r == 0
        if not fits:
            return None
        taps = [(-(lo // -r), (r - 1 + hi) // r) for lo, hi in shape.padding]  # below and above the block itself
        size = tuple(below + 1 + above for below, above in taps)
        height, width = shape.height // r, shape.width // r
        return replace(shape, height=height, width=width, kernel_size=size, padding=tuple(taps))

    def flops(self, shape):
        coarse = self.coarser(shape)
        passes = prod(shape.x_shape) + prod(shape.y_shape)
        return passes + (coarse.flops + 2 * prod(coarse.w_shape) if coarse else shape.flops)

    def dgrad_flops(self, shape):
        return self.flops(shape)

    def saves_nothing(self, shape):
        grid = (
            "which is no convolution of a coarser grid (stride, size or blocks that are not whole): take pooled there"
        )
        return {} if self.coarser(shape) else {"every device": grid}

    def keep(self, x, *, shape, key):
        from approxtrain_kernels import blocks

        return blocks.means(x, self.r)

    def gradients(self, kept, w, dy, *, shape, key):
        from approxtrain_kernels import blocks, dense

        dy_means, coarse = blocks.means(dy, self.r), self.coarser(shape)
        if coarse is None:
            x, smooth = blocks.copies(kept, self.r, shape.x_shape), blocks.copies(dy_means, self.r, dy.shape)
            dx = blocks.means(dense.dgrad(smooth, w, shape), self.r)
            return blocks.copies(dx, self.r, shape.x_shape), dense.wgrad(x, smooth, shape)
        rows, columns = (self.spread(shape.kernel_size[i], shape.padding[i], coarse.padding[i]) for i in (0, 1))
        galerkin = _product("Ii,Jj,ijab->IJab", rows, columns, w)
        dx = dense.dgrad(dy_means, galerkin, coarse)
        dw = _product("Ii,Jj,IJab->ijab", rows, columns, dense.wgrad(kept, dy_means, coarse))
        return blocks.copies(dx, self.r, shape.x_shape), self.r**2 * dw

    def spread(self, taps, padding, coarse_padding):
        """M `[coarse taps, taps]` of one axis."""
        import numpy as np

        (lo, _), (below, above) = padding, coarse_padding
        share = np.zeros((below + 1 + above, taps), np.float32)
        for i in range(taps):
            for u in range(self.r):
                share[below + (u + i - lo) // self.r, i] += 1 / self.r
        return share

    def oracle(self, x, dy, shape, key=None):
        from approxtrain_kernels import blocks, exact

        return exact.wgrad(blocks.projected(x, self.r), blocks.projected(dy, self.r), shape)

    def dgrad_oracle(self, x, w, dy, shape, key=None):
        from approxtrain_kernels import blocks, exact

        return blocks.projected(exact.dgrad(blocks.projected(dy, self.r), w, shape), self.r)


def _product(subscripts, rows, columns, kernel):
    """Both axes of a kernel `[Kh, Kw, Ci, Co]`, from the one grid to the other: small, so exact on every device."""
    import jax.numpy as jnp

    rows, columns = (jnp.asarray(share, kernel.dtype) for share in (rows, columns))
    return jnp.einsum(subscripts, rows, columns, kernel, precision="highest")
