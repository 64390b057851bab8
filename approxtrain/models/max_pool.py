"""Max pooling, whose gradient XLA's CPU backend turns into vector code: slices and comparisons, no scatter.

    y[n, p, q, c]  = max over the taps (i, j) of x[n, p·s + i − lo, q·s + j − lo, c]
    dx[n, h, w, c] = Σ dy[n, p, q, c] over the windows (p, q) whose largest entry is (h, w)

Of equal entries the first in row-major order is the largest, as in XLA's own gradient. That one finds it by a reduction
of pairs, and scatters, which is many times as slow on a CPU.
"""

from __future__ import annotations

from functools import partial, reduce
from itertools import product

import jax
import jax.numpy as jnp

from approxtrain_kernels import ConvShape, conv_shape


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def max_pool(x: jax.Array, window: int, stride: int) -> jax.Array:
    """x `[N, H, W, C]` → `[N, ⌈H/stride⌉, ⌈W/stride⌉, C]`, window×window, SAME padding."""
    return reduce(jnp.maximum, _taps(x, window, stride))


def _forward(x, window, stride):
    y = max_pool(x, window, stride)
    return y, (x, y)


def _backward(window, stride, residuals, dy):
    x, y = residuals
    taps = _taps(x, window, stride)
    winner = jnp.full(y.shape, len(taps) - 1, jnp.int32)
    for number in reversed(range(len(taps) - 1)):
        winner = jnp.where(taps[number] == y, number, winner)
    return (_to_pixels(winner, dy, x.shape, window, stride),)


max_pool.defvjp(_forward, _backward)


def _geometry(x_shape: tuple[int, ...], window: int, stride: int) -> ConvShape:
    """Padding and output size of the window, as of a convolution; the channels are not the images'."""
    return conv_shape(x_shape, 1, (window, window), (stride, stride))


def _taps(x: jax.Array, window: int, stride: int) -> list[jax.Array]:
    """What each tap of the window sees, `[N, Ho, Wo, C]`, in row-major order; −∞ outside of the image."""
    shape = _geometry(x.shape, window, stride)
    _, ho, wo, _ = shape.y_shape
    x = jnp.pad(x, ((0, 0), *shape.padding, (0, 0)), constant_values=-jnp.inf)
    rows, cols = ([slice(i, i + stride * (size - 1) + 1, stride) for i in range(window)] for size in (ho, wo))
    return [x[:, row, col] for row, col in product(rows, cols)]


def _to_pixels(winner: jax.Array, dy: jax.Array, x_shape: tuple[int, ...], window: int, stride: int) -> jax.Array:
    """dx, from the number of the tap that each window took.

    Pixel h = P·s + a is seen by window p through tap i where p = P + (a + lo − i) / s is whole. All pixels of one
    phase a have the same taps, and are a sum of shifted windows.
    """
    _, height, width, _ = x_shape
    (top, _), (left, _) = _geometry(x_shape, window, stride).padding
    room = -(-window // stride)  # the furthest that a shift reaches outside
    margin = ((0, 0), (room, room), (room, room), (0, 0))
    winner, dy = jnp.pad(winner, margin, constant_values=-1), jnp.pad(dy, margin)
    blocks = -(-height // stride), -(-width // stride)

    def phase(a: int, b: int) -> jax.Array:
        total = jnp.zeros((dy.shape[0], *blocks, dy.shape[3]), dy.dtype)
        for i, j in product(_taps_of(a, top, window, stride), _taps_of(b, left, window, stride)):
            p, q = room + (a + top - i) // stride, room + (b + left - j) // stride
            here = slice(None), slice(p, p + blocks[0]), slice(q, q + blocks[1])
            total = total + jnp.where(winner[here] == i * window + j, dy[here], 0)
        return total

    rows = [jnp.stack([phase(a, b) for b in range(stride)], axis=3) for a in range(stride)]
    full = jnp.stack(rows, axis=2)  # [N, H/s, s, W/s, s, C]
    return full.reshape(dy.shape[0], blocks[0] * stride, blocks[1] * stride, -1)[:, :height, :width]


def _taps_of(phase: int, low: int, window: int, stride: int) -> list[int]:
    return [i for i in range(window) if (phase + low - i) % stride == 0]
