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

from dataclasses import dataclass, field
from functools import partial
from math import isfinite, prod

from approxtrain_kernels.method import Method, refuse_unless_whole

PORTABLE = ("reference", "xla")
IMPLEMENTATIONS = (*PORTABLE, "pallas", "pallas-interpret")
GATHER_PIXELS = 8
"""On a CPU fetching patches pays from this many outputs for each one kept: 4×4 maps win 2×, 2×2 maps lose."""


@dataclass(frozen=True)
class Approx(Method):
    k: int = 1
    scale: float | str = 1.0
    implementation: str | None = field(default=None, kw_only=True, metadata={"parameter": False})
    """Who computes it: a named one of IMPLEMENTATIONS is used or refused, None takes the fastest that works here.
    Compared, for it decides what a program contains. Where k covers the map there is one form, the exact wgrad.

    `reference`: top-k and the dense form. `xla`: the portable fast path. `pallas`: kernels for NVIDIA GPUs.
    `pallas-interpret`: these, interpreted, to check them without a GPU.
    """

    name = "approx"
    summary = "only the k largest |dO| of each image and channel, carrying the channel's sum (the paper's rule)"
    colour = "#00805d"
    needs = frozenset({"x", "dy"})

    def __post_init__(self) -> None:
        refuse_unless_whole("k", self.k, "the entries kept of each plane")
        number = isinstance(self.scale, int | float) and not isinstance(self.scale, bool) and isfinite(self.scale)
        if self.scale != "paper" and not number:
            raise ValueError(f"`scale` (={self.scale!r}) must be a finite number, or 'paper' for 1/batch.")
        if self.implementation not in (None, *IMPLEMENTATIONS):
            names = ", ".join(IMPLEMENTATIONS)
            raise ValueError(f"`implementation` (={self.implementation!r}) must be one of {names}, or None.")

    def flops(self, shape):
        n, ho, wo, _ = shape.y_shape
        look = 3 * prod(shape.y_shape)  # |dO|, compare, add
        return look + 2 * n * prod(shape.w_shape) * min(self.k, ho * wo)

    def bytes(self, shape, itemsize):
        touched = min(prod(shape.x_shape), shape.batch * prod(shape.w_shape) * self.k)
        return itemsize * (prod(shape.y_shape) + touched + prod(shape.w_shape))

    def estimate(self, x, dy, *, shape, key):
        from approxtrain_kernels import dense, sparse
        from approxtrain_kernels.pallas import wgrad

        _, ho, wo, _ = shape.y_shape
        if self.k >= ho * wo:
            dw = dense.wgrad(x, dy, shape)
        elif self.implementation is None:
            dw = self._fastest(x, dy, shape)
        elif self.implementation == "reference":
            dw = sparse.dense_form(x, *sparse.select_top(dy, self.k), shape)
        elif self.implementation == "xla":
            dw = self._by_xla(x, dy, shape)
        else:
            dw = wgrad.or_refused(x, dy, shape, self.k, self.implementation)
        scale = self.factor(shape)
        return dw if scale == 1.0 else dw * scale

    def _fastest(self, x, dy, shape):
        """The kernels on an NVIDIA GPU, `native` on a CPU, each where it has this case; `xla` everywhere else."""
        from jax import lax

        from approxtrain_kernels import native
        from approxtrain_kernels.pallas import wgrad

        def without_kernels(x, dy):
            by_xla = partial(self._by_xla, shape=shape)
            if self.k > 1 or not native.computes(shape, x.dtype):
                return by_xla(x, dy)
            on_cpu = partial(native.topk_wgrad, shape=shape, gather=self.gathers(shape))
            return lax.platform_dependent(x, dy, cpu=on_cpu, default=by_xla)

        return wgrad.where_they_run(x, dy, shape, self.k, without_kernels)

    def _by_xla(self, x, dy, shape):
        from approxtrain_kernels import sparse

        position, value = sparse.select_largest(dy) if self.k == 1 else sparse.select_top(dy, self.k)
        return sparse.wgrad(x, position, value, shape, gather_on_cpu=self.gathers(shape))

    def gathers(self, shape):
        """Whether a CPU fetches patches; otherwise it takes the dense form."""
        _, ho, wo, _ = shape.y_shape
        return ho * wo >= GATHER_PIXELS * self.k

    def saves_nothing(self, shape):
        from approxtrain_kernels.pallas.choose import choose
        from approxtrain_kernels.pallas.model import DEFAULT

        reasons = {}
        if not self.gathers(shape):
            few = f"whose maps have fewer than {GATHER_PIXELS} outputs for each one kept"
            reasons["a CPU"] = f"{few}: take full or pooled there"
        for name, tf32 in (("in TF32", True), ("in strict float32", False)):
            if choose(shape, self.k, tf32=tf32).form == "dense":
                reasons[f"{DEFAULT.name} {name}"] = "by the cost model, not measured: take full or pooled there"
        return reasons

    def factor(self, shape):
        """`scale` as a number."""
        from approxtrain_kernels.replicas import whole_batch

        return 1 / whole_batch(shape) if self.scale == "paper" else float(self.scale)

    def oracle(self, x, dy, shape, key=None):
        import numpy as np

        from approxtrain_kernels import exact

        n, ho, wo, co = shape.y_shape
        planes = dy.astype(np.float64).reshape(n, ho * wo, co)
        k = min(self.k, ho * wo)
        order = np.argsort(-np.abs(planes), axis=1, kind="stable")[:, :k]
        kept = np.take_along_axis(planes, order, axis=1)
        total = planes.sum(1, keepdims=True)
        carried = total if k == 1 else kept + (total - kept.sum(1, keepdims=True)) / k
        sparse = np.zeros_like(planes)
        np.put_along_axis(sparse, order, carried, axis=1)
        return self.factor(shape) * exact.wgrad(x, sparse.reshape(shape.y_shape), shape)
