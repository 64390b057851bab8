"""The weight gradient of block means: box sums of x, then a dense weight gradient of larger stride.

    dW[i, j, ci, co] = Σ_{n, P, Q}  m[n, P, Q, co] · S[n, P·r·s + i, Q·r·s + j, ci]
    S[n, h, w, ci]   = Σ_{a, b < r}  x[n, h + a·s − lo, w + b·s − lo, ci]

Blocks that do not fit at the lower and right edge are smaller: they are up to three more such sums, of their own size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from approxtrain_kernels import dense, onednn
from approxtrain_kernels.geometry import ConvShape, Pair

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
    _, ho, wo, _ = shape.y_shape
    parts = [_part(x, dy, shape, *strips) for strips in product(_strips(ho, r), _strips(wo, r))]
    return sum(parts[1:], parts[0])


def _strips(size: int, r: int) -> list[_Strip]:
    whole, rest = divmod(size, r)
    strips = [_Strip(0, r, whole)] if whole else []
    return strips + ([_Strip(whole * r, rest, 1)] if rest else [])


def _part(x: jax.Array, dy: jax.Array, shape: ConvShape, rows: _Strip, cols: _Strip) -> jax.Array:
    padding, strides = [], []
    for axis, strip in ((0, rows), (1, cols)):
        s, k, (low, _) = shape.strides[axis], shape.kernel_size[axis], shape.padding[axis]
        first = strip.start * s - low  # row of x where the strip's first box begins
        last = first + (strip.end - strip.start - 1) * s + k - 1  # and where its last one ends
        padding.append((-first, last + 1 - x.shape[1 + axis]))
        strides.append(strip.size * s)
    sums = _box_sums(x, (rows.size, cols.size), shape.strides, padding)
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
    return dense.wgrad(sums, means, reduced)


def _means(image: jax.Array, rows: _Strip, cols: _Strip) -> jax.Array:
    """Means of blocks. Small ones as sums of slices, which XLA's CPU backend turns into vector code, unlike `mean`."""
    n, _, _, channels = image.shape
    blocks = image.reshape(n, rows.count, rows.size, cols.count, cols.size, channels).astype(jnp.float32)
    area = rows.size * cols.size
    if area > UNROLLED:
        return blocks.mean((2, 4)).astype(image.dtype)
    slices = [blocks[:, :, a, :, b] for a, b in product(range(rows.size), range(cols.size))]
    return (sum(slices[1:], slices[0]) / area).astype(image.dtype)


def _box_sums(x: jax.Array, terms: Pair, steps: Pair, padding: Sequence[Pair]) -> jax.Array:
    """Sums of terms_h × terms_w entries, `steps` apart, from every pixel of x padded (or cropped) on; as x's dtype."""
    options: dict[str, Any] = {"terms": terms, "steps": steps, "padding": padding}
    by_slices = partial(_sums_of_slices, **options)
    if not onednn.available() or x.dtype != jnp.float32 or not x.size:
        return by_slices(x)
    return lax.platform_dependent(x, cpu=partial(onednn.box_sums, **options), default=by_slices)


def _sums_of_slices(x: jax.Array, terms: Pair, steps: Pair, padding: Sequence[Pair]) -> jax.Array:
    sums = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)])
    for axis, (count, step) in enumerate(zip(terms, steps, strict=True), start=1):
        length = sums.shape[axis] - (count - 1) * step
        firsts = range(0, count * step, step)
        shifted = [lax.slice_in_dim(sums, first, first + length, axis=axis).astype(jnp.float32) for first in firsts]
        sums = sum(shifted[1:], shifted[0])
    # Without the barrier XLA adds up in the order of the transpose that follows, four times as slowly on a CPU.
    return lax.optimization_barrier(sums.astype(x.dtype))
