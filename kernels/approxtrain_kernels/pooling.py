"""The weight gradient of block means: box sums of x, then a dense weight gradient of larger stride.

    dW[i, j, ci, co] = Σ_{n, P, Q}  m[n, P, Q, co] · S[n, P·r·s + i, Q·r·s + j, ci]
    S[n, h, w, ci]   = Σ_{a, b < r}  x[n, h + a·s − lo, w + b·s − lo, ci]

Blocks that do not fit at the lower and right edge are smaller: they are up to three more such sums, of their own size.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
from jax import lax

from approxtrain_kernels import dense, native
from approxtrain_kernels.geometry import ConvShape, conv_shape, pieces
from approxtrain_kernels.precision import wide

UNROLLED = 16
"""Blocks of up to this many entries are summed slice by slice."""


Strip = tuple[int, int, int]
"""Rows, or columns, of dO that are divided into blocks: the first of them, the size of a block, how many blocks."""


def wgrad(x: jax.Array, dy: jax.Array, shape: ConvShape, r: int) -> jax.Array:
    """dw `[Kh, Kw, Ci, Co]` from x `[N, H, W, Ci]` and dy `[N, Ho, Wo, Co]` with blocks of r×r."""
    whole = partial(_wgrad, shape=shape, r=r)
    _, ho, wo, _ = shape.y_shape
    if ho % r or wo % r or not native.computes(shape, x.dtype):
        return whole(x, dy)
    # All in one pass over a few images: box sums of all of them would go to memory and back.
    return lax.platform_dependent(x, dy, cpu=partial(native.wgrad, shape=shape, r=r), default=whole)


def _wgrad(x: jax.Array, dy: jax.Array, shape: ConvShape, r: int) -> jax.Array:
    _, ho, wo, _ = shape.y_shape
    padded = jnp.pad(x, ((0, 0), *shape.padding, (0, 0)))
    parts = [_part(padded, dy, shape, *strips) for strips in product(pieces(ho, r), pieces(wo, r))]
    return sum(parts[1:], parts[0])


def _part(padded: jax.Array, dy: jax.Array, shape: ConvShape, rows: Strip, columns: Strip) -> jax.Array:
    sums = padded
    for axis, (start, size, count) in ((1, rows), (2, columns)):
        s = shape.strides[axis - 1]
        length = (count - 1) * size * s + shape.kernel_size[axis - 1]
        sums = _box(sums, axis, start * s, length, step=s, terms=size)
    (top, height, down), (left, width, across) = rows, columns
    means = _means(dy[:, top : top + height * down, left : left + width * across], height, width)
    strides = (shape.strides[0] * height, shape.strides[1] * width)
    reduced = conv_shape(sums.shape, shape.out_channels, shape.kernel_size, strides, "VALID")
    # Without the barrier XLA adds up in the order of the transpose that follows, four times as slowly on a CPU.
    return dense.wgrad(lax.optimization_barrier(sums.astype(dy.dtype)), means, reduced)


def _means(image: jax.Array, rows: int, columns: int) -> jax.Array:
    """Means of blocks of rows × columns.

    Small ones are sums of slices, which XLA's CPU backend turns into vector code, unlike `mean`.
    """
    n, height, width, channels = image.shape
    blocks = wide(image.reshape(n, height // rows, rows, width // columns, columns, channels))
    if rows * columns > UNROLLED:
        return blocks.mean((2, 4)).astype(image.dtype)
    slices = [blocks[:, :, a, :, b] for a, b in product(range(rows), range(columns))]
    return (sum(slices[1:], slices[0]) / (rows * columns)).astype(image.dtype)


def _box(image: jax.Array, axis: int, start: int, length: int, *, step: int, terms: int) -> jax.Array:
    """`length` sums along an axis from `start` on, `wide`: of `terms` entries each, `step` apart."""
    firsts = range(start, start + terms * step, step)
    shifted = [wide(lax.slice_in_dim(image, first, first + length, axis=axis)) for first in firsts]
    return sum(shifted[1:], shifted[0])
