"""The three parts of a convolution in the one form that XLA runs fast everywhere.

    forward   y  = x ∗ w
    dgrad     dx = dy ∗ flip(w)ᵀ      (dy spread by the stride)
    wgrad     dw = xᵀ ∗ dyᵀ           (dy spread by the stride; the batch is what is summed over)

Each is written as an NHWC, HWIO → NHWC convolution with explicit transposes. XLA's CPU backend brings other orders into
this form only at the top level of a program: inside `scan` or `switch`, they run 30 to 80 times slower.
On a GPU the transposes fold back into cuDNN's backward calls.

Maps of two to four pixels (the last group of VGG-19 is 2×2) are a few matrix products instead: every output pixel
sees nearly every input pixel, and XLA's CPU convolutions are tens of times slower there. One product a pixel, not one
for all: the shorter sums keep the rounding error within twice that of a convolution.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from approxtrain_kernels.geometry import ConvShape

ORDER = ("NHWC", "HWIO", "NHWC")
DOT_PIXELS = 4
"""Maps of two up to this many input pixels are computed as matrix products."""


def forward(x: jax.Array, w: jax.Array, shape: ConvShape) -> jax.Array:
    """y `[N, Ho, Wo, Co]` from x `[N, H, W, Ci]` and w `[Kh, Kw, Ci, Co]`."""
    if is_dot(shape):
        taps = _taps(w, shape)
        seen = _pixels(x)
        y = _sum([seen[p] @ jnp.concatenate(row, axis=1) for p, row in enumerate(taps)])
        return y.reshape(shape.y_shape)
    return lax.conv_general_dilated(x, w, shape.strides, shape.padding, dimension_numbers=ORDER)


def dgrad(dy: jax.Array, w: jax.Array, shape: ConvShape) -> jax.Array:
    """dx `[N, H, W, Ci]`: the exact gradient of the input."""
    if is_dot(shape):
        taps = _taps(w, shape)
        dx = _sum([d @ jnp.concatenate([row[q].T for row in taps], axis=1) for q, d in enumerate(_pixels(dy))])
        return dx.reshape(shape.x_shape)
    padding = [(k - 1 - lo, beyond) for k, lo, beyond in _ends(shape)]
    flipped = jnp.transpose(w[::-1, ::-1], (0, 1, 3, 2))
    return lax.conv_general_dilated(dy, flipped, (1, 1), padding, lhs_dilation=shape.strides, dimension_numbers=ORDER)


def wgrad(x: jax.Array, dy: jax.Array, shape: ConvShape) -> jax.Array:
    """dw `[Kh, Kw, Ci, Co]`: the exact gradient of the weight."""
    if is_dot(shape):
        return _fold(x.reshape(shape.batch, -1).T @ dy.reshape(shape.batch, -1), shape)
    images_last = jnp.transpose(x, (3, 1, 2, 0))  # [Ci, H, W, N]
    as_kernel = jnp.transpose(dy, (1, 2, 0, 3))  # [Ho, Wo, N, Co]
    padding = [(lo, k - 1 - beyond) for k, lo, beyond in _ends(shape)]  # the second may be negative
    out = lax.conv_general_dilated(
        images_last, as_kernel, (1, 1), padding, rhs_dilation=shape.strides, dimension_numbers=ORDER
    )  # [Ci, Kh, Kw, Co]
    return jnp.transpose(out, (1, 2, 0, 3))


def _ends(shape: ConvShape) -> list[tuple[int, int, int]]:
    """Of rows and of columns: taps, padding before x, and how much of x lies beyond the last output's first tap."""
    sizes = zip(shape.x_shape[1:3], shape.y_shape[1:3], shape.kernel_size, shape.strides, shape.padding, strict=True)
    return [(k, lo, size - 1 + lo - (out - 1) * s) for size, out, k, s, (lo, _) in sizes]


def is_dot(shape: ConvShape) -> bool:
    """Whether this convolution is computed as matrix products."""
    return 1 < shape.height * shape.width <= DOT_PIXELS and shape.kernel_size != (1, 1)


def _pixels(image: jax.Array) -> list[jax.Array]:
    """`[N, H, W, C]` → H·W arrays `[N, C]`."""
    flat = image.reshape(image.shape[0], -1, image.shape[3])
    return [flat[:, pixel] for pixel in range(flat.shape[1])]


def _sum(terms: list[jax.Array]) -> jax.Array:
    """By halves, which rounds less than one after the other."""
    middle = len(terms) // 2
    return terms[0] if not middle else _sum(terms[:middle]) + _sum(terms[middle:])


def _taps(w: jax.Array, shape: ConvShape) -> list[list[jax.Array]]:
    """`[p][q]`: the tap `[Ci, Co]` that joins input pixel p and output pixel q, zeros where there is none."""
    flat = jnp.concatenate([w.reshape(-1, *w.shape[2:]), jnp.zeros((1, *w.shape[2:]), w.dtype)])
    return [[flat[tap] for tap in row] for row in _tap_of(shape)]


def _fold(matrix: jax.Array, shape: ConvShape) -> jax.Array:
    """dw from the products of all pairs of pixels `[H·W·Ci, Ho·Wo·Co]`: those that share a tap are added."""
    tap = _tap_of(shape)
    pixels_in, pixels_out = tap.shape
    blocks = matrix.reshape(pixels_in, shape.in_channels, pixels_out, shape.out_channels)
    kh, kw = shape.kernel_size
    dw = []
    for number in range(kh * kw):
        pairs = [blocks[p, :, q] for p, q in np.argwhere(tap == number)]
        dw.append(_sum(pairs) if pairs else jnp.zeros_like(blocks[0, :, 0]))
    return jnp.stack(dw).reshape(shape.w_shape)


def _tap_of(shape: ConvShape) -> np.ndarray:
    """`[H·W, Ho·Wo]`: the number of the tap that joins input pixel and output pixel, Kh·Kw where there is none."""
    (kh, kw), (sh, sw) = shape.kernel_size, shape.strides
    _, ho, wo, _ = shape.y_shape
    row = np.arange(shape.height)[:, None] - np.arange(ho)[None, :] * sh + shape.padding[0][0]  # [H, Ho]
    col = np.arange(shape.width)[:, None] - np.arange(wo)[None, :] * sw + shape.padding[1][0]  # [W, Wo]
    row, col = row[:, None, :, None], col[None, :, None, :]
    inside = (row >= 0) & (row < kh) & (col >= 0) & (col < kw)
    return np.where(inside, row * kw + col, kh * kw).reshape(shape.height * shape.width, ho * wo)
