"""The weight gradient of one output in a block of rows × columns, at an offset that is drawn: a dense one, smaller.

    a, b         uniform in the block, drawn once for the layer and step
    dO'[n,p,q,c] = |block| · dO[n,p,q,c]   where p ≡ a (mod rows) and q ≡ b (mod columns), else 0
    dW           = Σ x ∗ dO'

What is left of dO is itself an image, one pixel a block, and the sum is the weight gradient of a convolution of x,
shifted by the offset, with the block as a further stride. Each output is kept with probability 1/|block|, wherever the
map ends: E[dO'] = dO.
"""

from __future__ import annotations

from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from approxtrain_kernels import dense, exact
from approxtrain_kernels.geometry import ConvShape, Pair, conv_shape


def offset(key: Any, block: Pair) -> jax.Array:
    """The first row and the first column that are kept: int32 [2]."""
    return jax.random.randint(key, (2,), 0, jnp.array(block))


def wgrad(x: jax.Array, dy: jax.Array, shape: ConvShape, block: Pair, key: Any) -> jax.Array:
    """dw `[Kh, Kw, Ci, Co]` from x `[N, H, W, Ci]` and dy `[N, Ho, Wo, Co]`."""
    first = offset(key, block)
    for axis, (each, start) in enumerate(zip(block, first, strict=True), start=1):
        size, stride, taps = shape.y_shape[axis], shape.strides[axis - 1], shape.kernel_size[axis - 1]
        count = -(-size // each)  # of blocks; the last may reach beyond the map, where dO and x are zero
        beyond, (low, high) = count * each - size, shape.padding[axis - 1]
        dy = _padded(dy, axis, 0, beyond)
        dy = dy.reshape(*dy.shape[:axis], count, each, *dy.shape[axis + 1 :])
        dy = lax.dynamic_index_in_dim(dy, start, axis + 1, keepdims=False)
        x = _padded(x, axis, low, high + beyond * stride)
        x = lax.dynamic_slice_in_dim(x, start * stride, (count - 1) * each * stride + taps, axis)
    strides = (block[0] * shape.strides[0], block[1] * shape.strides[1])
    smaller = conv_shape(x.shape, shape.out_channels, shape.kernel_size, strides, "VALID")
    return dense.wgrad(x, dy, smaller) * prod(block)


def oracle(x: np.ndarray, dy: np.ndarray, shape: ConvShape, block: Pair, key: Any) -> np.ndarray:
    """The same in float64, from the equation."""
    a, b = np.asarray(offset(key, block))
    kept, thinned = np.s_[:, a :: block[0], b :: block[1]], np.zeros(shape.y_shape)
    thinned[kept] = prod(block) * dy[kept].astype(np.float64)
    return exact.wgrad(x, thinned, shape)


def _padded(image: jax.Array, axis: int, before: int, after: int) -> jax.Array:
    return jnp.pad(image, [(before, after) if each == axis else (0, 0) for each in range(image.ndim)])
