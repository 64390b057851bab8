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
        return _means(x, self.r)

    def gradients(self, kept, w, dy, *, shape, key):
        from approxtrain_kernels import dense

        dy_means, coarse = _means(dy, self.r), self.coarser(shape)
        if coarse is None:
            x, smooth = (_copies(means, self.r, size) for means, size in ((kept, shape.x_shape), (dy_means, dy.shape)))
            dx = _means(dense.dgrad(smooth, w, shape), self.r)
            return _copies(dx, self.r, shape.x_shape), dense.wgrad(x, smooth, shape)
        rows, columns = (self.spread(shape.kernel_size[i], shape.padding[i], coarse.padding[i]) for i in (0, 1))
        galerkin = _product("Ii,Jj,ijab->IJab", rows, columns, w)
        dx = dense.dgrad(dy_means, galerkin, coarse)
        dw = _product("Ii,Jj,IJab->ijab", rows, columns, dense.wgrad(kept, dy_means, coarse))
        return _copies(dx, self.r, shape.x_shape), self.r**2 * dw

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
        from approxtrain_kernels import exact

        return exact.wgrad(self.projected(x), self.projected(dy), shape)

    def dgrad_oracle(self, x, w, dy, shape, key=None):
        from approxtrain_kernels import exact

        return self.projected(exact.dgrad(self.projected(dy), w, shape))

    def projected(self, image):
        """A of an image, in float64."""
        import numpy as np

        smooth = image.astype(np.float64)
        _, height, width, _ = image.shape
        for top in range(0, height, self.r):
            for left in range(0, width, self.r):
                block = np.s_[:, top : top + self.r, left : left + self.r]
                smooth[block] = smooth[block].mean((1, 2), keepdims=True)
        return smooth


def _means(image, r):
    """R: `[N, H, W, C]` → `[N, ⌈H / r⌉, ⌈W / r⌉, C]`."""
    import jax.numpy as jnp

    from approxtrain_kernels.precision import wide

    n, height, width, channels = image.shape
    rows, columns = -(-height // r), -(-width // r)
    whole = jnp.pad(wide(image), ((0, 0), (0, rows * r - height), (0, columns * r - width), (0, 0)))
    # slices in place of a reduction, which XLA's CPU backend does not turn into vector code
    down = sum((whole[:, a::r] for a in range(1, r)), whole[:, ::r])
    sums = sum((down[:, :, b::r] for b in range(1, r)), down[:, :, ::r])
    counts = [jnp.minimum(r, size - r * jnp.arange(count)) for size, count in ((height, rows), (width, columns))]
    return (sums / (counts[0][:, None] * counts[1])[..., None]).astype(image.dtype).reshape(n, rows, columns, channels)


def _copies(means, r, size):
    """P: as large as `size` `[N, H, W, C]`."""
    import jax.numpy as jnp

    _, height, width, _ = size
    return jnp.repeat(jnp.repeat(means, r, 1), r, 2)[:, :height, :width]


def _product(subscripts, rows, columns, kernel):
    """Both axes of a kernel `[Kh, Kw, Ci, Co]`, from the one grid to the other: small, so exact on every device."""
    import jax.numpy as jnp

    rows, columns = (jnp.asarray(share, kernel.dtype) for share in (rows, columns))
    return jnp.einsum(subscripts, rows, columns, kernel, precision="highest")
