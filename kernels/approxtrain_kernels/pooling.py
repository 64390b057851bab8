"""The weight gradient of block means: box sums of x, then a dense weight gradient of larger stride.

    dW[i, j, ci, co] = Σ_{n, P, Q}  m[n, P, Q, co] · S[n, P·r·s + i, Q·r·s + j, ci]
    S[n, h, w, ci]   = Σ_{a, b < r}  x[n, h + a·s − lo, w + b·s − lo, ci]

Blocks that do not fit at the lower and right edge are smaller: they are up to three more such sums, of their own size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
from jax import lax

from approxtrain_kernels import dense, native
from approxtrain_kernels.geometry import ConvShape

UNROLLED = 16
"""Blocks of up to this many entries are summed slice by slice."""


@dataclass(frozen=True)
class _Strip:
    """Rows (or columns) start … start + count·size of dO, in `count` blocks of `size`."""

    start: int
    size: int
    count: int

    @property
    def end(self) -> int:
        return self.start + self.size * self.count


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
    parts = [_part(padded, dy, shape, *strips) for strips in product(_strips(ho, r), _strips(wo, r))]
    return sum(parts[1:], parts[0])


def _strips(size: int, r: int) -> list[_Strip]:
    whole, rest = divmod(size, r)
    strips = [_Strip(0, r, whole)] if whole else []
    return strips + ([_Strip(whole * r, rest, 1)] if rest else [])


def _part(padded: jax.Array, dy: jax.Array, shape: ConvShape, rows: _Strip, cols: _Strip) -> jax.Array:
    sums = padded
    strides = []
    for axis, strip in ((1, rows), (2, cols)):
        s = shape.strides[axis - 1]
        length = (strip.count - 1) * strip.size * s + shape.kernel_size[axis - 1]
        sums = _box(sums, axis, strip.start * s, length, step=s, terms=strip.size)
        strides.append(strip.size * s)
    n, height, width, ci = sums.shape
    means = _means(dy[:, rows.start : rows.end, cols.start : cols.end], rows, cols)
    reduced = ConvShape(
        batch=n,
        height=height,
        width=width,
        in_channels=ci,
        out_channels=shape.out_channels,
        kernel_size=shape.kernel_size,
        strides=(strides[0], strides[1]),
        padding=((0, 0), (0, 0)),
    )
    # Without the barrier XLA adds up in the order of the transpose that follows, four times as slowly on a CPU.
    return dense.wgrad(lax.optimization_barrier(sums.astype(dy.dtype)), means, reduced)


def _means(image: jax.Array, rows: _Strip, cols: _Strip) -> jax.Array:
    """Means of blocks. Small ones as sums of slices, which XLA's CPU backend turns into vector code, unlike `mean`."""
    n, _, _, channels = image.shape
    blocks = image.reshape(n, rows.count, rows.size, cols.count, cols.size, channels).astype(jnp.float32)
    area = rows.size * cols.size
    if area > UNROLLED:
        return blocks.mean((2, 4)).astype(image.dtype)
    slices = [blocks[:, :, a, :, b] for a, b in product(range(rows.size), range(cols.size))]
    return (sum(slices[1:], slices[0]) / area).astype(image.dtype)


def _box(image: jax.Array, axis: int, start: int, length: int, *, step: int, terms: int) -> jax.Array:
    """`length` sums along an axis from `start` on, in float32: of `terms` entries each, `step` apart."""
    firsts = range(start, start + terms * step, step)
    shifted = [lax.slice_in_dim(image, first, first + length, axis=axis).astype(jnp.float32) for first in firsts]
    return sum(shifted[1:], shifted[0])
