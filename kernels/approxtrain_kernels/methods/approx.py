"""`approx`: the exact wgrad of dO with only the k largest entries of each plane kept (Wang & Nelaturu 2019, 2.3).

For each image n and output channel c, with s = Σ dO[n, :, :, c] and the k entries of largest |dO|:

    dO'[n, p, q, c] = dO[n, p, q, c] + (s − Σ kept) / k     where (p, q) is kept, else 0
    dW              = scale · Σ x ∗ dO'

k = 1 is the paper's Algorithm 1 (the largest entry carries the channel's sum); k = Ho·Wo is exact. Equal entries: the
first in row-major order is kept. A plane of zeros adds nothing, a NaN in it reaches dW[..., c].

`scale="paper"` is 1/batch. The paper multiplies by 1/128, but with a loss that is a mean over the batch dO already
carries 1/N, and the cell ends up 128 times too small; 1.0 is the default.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import isfinite, prod

from approxtrain_kernels.method import Method
from approxtrain_kernels.methods.full import Full

GATHER_PIXELS = 8
"""On a CPU fetching patches pays from this many outputs for each one kept: 4×4 maps win 2×, 2×2 maps lose."""


@dataclass(frozen=True)
class Approx(Method):
    k: int = 1
    scale: float | str = 1.0

    name = "approx"
    summary = "only the k largest |dO| of each image and channel, carrying the channel's sum (the paper's rule)"
    colour = "#00805d"
    needs = frozenset({"x", "dy"})

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise ValueError(f"`k` (={self.k!r}) must be a whole number of at least 1: the entries kept of each plane.")
        number = isinstance(self.scale, int | float) and not isinstance(self.scale, bool) and isfinite(self.scale)
        if self.scale != "paper" and not number:
            raise ValueError(f"`scale` (={self.scale!r}) must be a finite number, or 'paper' for 1/batch.")

    def flops(self, shape):
        n, ho, wo, co = shape.y_shape
        taps = shape.kernel_size[0] * shape.kernel_size[1] * shape.in_channels
        look = 3 * n * ho * wo * co  # |dO|, compare, add
        return look + 2 * n * co * taps * min(self.k, ho * wo)

    def bytes(self, shape, itemsize):
        n, _, _, co = shape.y_shape
        taps = shape.kernel_size[0] * shape.kernel_size[1] * shape.in_channels
        touched = min(prod(shape.x_shape), n * co * taps * self.k)
        return itemsize * (prod(shape.y_shape) + touched + prod(shape.w_shape))

    def estimate(self, x, dy, *, shape, dtype, key, implementation):
        from jax import lax

        from approxtrain_kernels import dense, native, sparse
        from approxtrain_kernels.pallas.platform import on_cuda, supports
        from approxtrain_kernels.pallas.wgrad import estimate as by_kernels

        def by_xla(x, dy):
            kept = sparse.select_largest(dy) if self.k == 1 else sparse.select_top(dy, self.k)
            return sparse.wgrad(x, *kept, shape, gather_on_cpu=self.gathers(shape))

        def fastest(x, dy):
            if self.k > 1 or not native.computes(shape, x.dtype):
                return by_xla(x, dy)
            ours = partial(native.topk_wgrad, shape=shape, gather=self.gathers(shape))
            return lax.platform_dependent(x, dy, cpu=ours, default=by_xla)

        if self.k >= shape.y_shape[1] * shape.y_shape[2]:
            dw = dense.wgrad(x, dy, shape)
        elif implementation == "reference":
            dw = sparse.dense_form(x, *sparse.select_top(dy, self.k), shape)
        elif implementation == "xla":
            dw = by_xla(x, dy)
        elif implementation is None and not supports(x.dtype.name):
            dw = fastest(x, dy)
        elif not supports(x.dtype.name):
            raise ValueError(
                f"`implementation` (={implementation!r}) has kernels for float32, bfloat16 and float16, on NVIDIA GPUs "
                f"from Ampere on; this is {x.dtype.name}, or an older GPU: take 'xla', or None for the fastest here."
            )
        elif implementation == "pallas-interpret":
            dw = by_kernels(x, dy, shape, self.k, interpret=True)
        else:
            dw = on_cuda(x, dy, shape, self.k, None if implementation == "pallas" else fastest)
        scale = self.factor(shape)
        return (dw if scale == 1.0 else dw * scale).astype(dtype)

    def gathers(self, shape):
        """Whether a CPU fetches patches; otherwise it takes the dense form."""
        _, ho, wo, _ = shape.y_shape
        return ho * wo >= GATHER_PIXELS * self.k

    def saves_nothing(self, shape):
        from approxtrain_kernels.pallas.choose import choose
        from approxtrain_kernels.pallas.devices import DEFAULT

        found = {}
        if not self.gathers(shape):
            few = f"whose maps have fewer than {GATHER_PIXELS} outputs for each one kept"
            found["a CPU"] = f"{few}: take full or pooled there"
        for name, tf32 in (("in TF32", True), ("in strict float32", False)):
            if choose(shape, self.k, tf32=tf32).form == "dense":
                found[f"{DEFAULT.name} {name}"] = "by the cost model, not measured: take full or pooled there"
        return found

    def factor(self, shape):
        """`scale` as a number."""
        return 1 / shape.batch if self.scale == "paper" else float(self.scale)

    def oracle(self, x, dy, shape):
        import numpy as np

        n, ho, wo, co = shape.y_shape
        planes = dy.astype(np.float64).reshape(n, ho * wo, co)
        k = min(self.k, ho * wo)
        order = np.argsort(-np.abs(planes), axis=1, kind="stable")[:, :k]
        kept = np.take_along_axis(planes, order, axis=1)
        total = planes.sum(1, keepdims=True)
        carried = total if k == 1 else kept + (total - kept.sum(1, keepdims=True)) / k
        sparse = np.zeros_like(planes)
        np.put_along_axis(sparse, order, carried, axis=1)
        return self.factor(shape) * Full().oracle(x, sparse.reshape(shape.y_shape), shape)
