"""The exact convolution and its two gradients, by whatever is fastest where the program runs.

    forward   y  = x ∗ w
    dgrad     dx = ∂L/∂x
    wgrad     dw = ∂L/∂w

On a CPU that is code of our own (`native`), where it can be made; elsewhere XLA's own convolutions in the one form that
is fast everywhere (`canonical`), which a GPU's compiler turns into cuDNN's calls.
"""

from __future__ import annotations

from functools import partial

import jax
from jax import lax

from approxtrain_kernels import canonical, native
from approxtrain_kernels.geometry import ConvShape


def forward(x: jax.Array, w: jax.Array, shape: ConvShape) -> jax.Array:
    """y `[N, Ho, Wo, Co]` from x `[N, H, W, Ci]` and w `[Kh, Kw, Ci, Co]`."""
    return _fastest("forward", x, w, shape)


def dgrad(dy: jax.Array, w: jax.Array, shape: ConvShape) -> jax.Array:
    """dx `[N, H, W, Ci]` from dy `[N, Ho, Wo, Co]` and w."""
    return _fastest("dgrad", dy, w, shape)


def wgrad(x: jax.Array, dy: jax.Array, shape: ConvShape) -> jax.Array:
    """dw `[Kh, Kw, Ci, Co]` from x and dy."""
    if shape.y_shape[1:3] == (1, 1) and not any(hi or lo for lo, hi in shape.padding):
        kh, kw = shape.kernel_size  # one output pixel sees every pixel through a tap of its own: one product
        return (x[:, :kh, :kw].reshape(shape.batch, -1).T @ dy.reshape(shape.batch, -1)).reshape(shape.w_shape)
    return _fastest("wgrad", x, dy, shape)


def _fastest(part: str, a: jax.Array, b: jax.Array, shape: ConvShape) -> jax.Array:
    default = partial(getattr(canonical, part), shape=shape)
    if not native.computes(shape, a.dtype):
        return default(a, b)
    return lax.platform_dependent(a, b, cpu=partial(getattr(native, part), shape=shape), default=default)
