"""The exact convolution and its two gradients, by whatever is fastest where the program runs.

    forward   y  = x ∗ w
    dgrad     dx = ∂L/∂x
    wgrad     dw = ∂L/∂w

On a CPU that is oneDNN for forward and dgrad, where this jaxlib is known to have it (`onednn`), and code of our own for
wgrad (`native`); elsewhere XLA's own convolutions in the one form that is fast everywhere (`canonical`), which a GPU's
compiler turns into cuDNN's calls. On maps of two to four pixels, forward and dgrad are matrix products.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
from jax import lax

from approxtrain_kernels import canonical, native, onednn
from approxtrain_kernels.geometry import ConvShape


def forward(x: jax.Array, w: jax.Array, shape: ConvShape) -> jax.Array:
    """y `[N, Ho, Wo, Co]` from x `[N, H, W, Ci]` and w `[Kh, Kw, Ci, Co]`."""
    return _fastest(onednn, "forward", x, w, shape, products=canonical.is_dot(shape))


def dgrad(dy: jax.Array, w: jax.Array, shape: ConvShape) -> jax.Array:
    """dx `[N, H, W, Ci]` from dy `[N, Ho, Wo, Co]` and w."""
    return _fastest(onednn, "dgrad", dy, w, shape, products=canonical.is_dot(shape))


def wgrad(x: jax.Array, dy: jax.Array, shape: ConvShape) -> jax.Array:
    """dw `[Kh, Kw, Ci, Co]` from x and dy."""
    if shape.y_shape[1:3] == (1, 1) and not any(hi or lo for lo, hi in shape.padding):
        kh, kw = shape.kernel_size  # one output pixel sees every pixel through a tap of its own: one product
        return (x[:, :kh, :kw].reshape(shape.batch, -1).T @ dy.reshape(shape.batch, -1)).reshape(shape.w_shape)
    return _fastest(native, "wgrad", x, dy, shape, products=False)


def _fastest(module: Any, part: str, a: jax.Array, b: jax.Array, shape: ConvShape, *, products: bool) -> jax.Array:
    default = partial(getattr(canonical, part), shape=shape)
    if products or not module.computes(shape, a.dtype):
        return default(a, b)
    return lax.platform_dependent(a, b, cpu=partial(getattr(module, part), shape=shape), default=default)
