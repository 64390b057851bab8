"""A convolution and its two gradients in float64 NumPy, tap by tap: what every faster form is checked against."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from approxtrain_kernels.geometry import ConvShape


def forward(x: np.ndarray, w: np.ndarray, shape: ConvShape) -> np.ndarray:
    """y `[N, Ho, Wo, Co]`."""
    w = w.astype(np.float64)
    return sum((seen @ w[tap] for tap, seen in _taps(_padded(x, shape), shape)), np.zeros(shape.y_shape))


def dgrad(dy: np.ndarray, w: np.ndarray, shape: ConvShape) -> np.ndarray:
    """dx `[N, H, W, Ci]`."""
    dy, w, padded = dy.astype(np.float64), w.astype(np.float64), _padded(np.zeros(shape.x_shape), shape)
    for tap, seen in _taps(padded, shape):
        seen += dy @ w[tap].T
    (top, _), (left, _) = shape.padding
    return padded[:, top : top + shape.height, left : left + shape.width]


def wgrad(x: np.ndarray, dy: np.ndarray, shape: ConvShape) -> np.ndarray:
    """dw `[Kh, Kw, Ci, Co]`."""
    dy, dw = dy.astype(np.float64), np.empty(shape.w_shape)
    for tap, seen in _taps(_padded(x, shape), shape):
        dw[tap] = np.tensordot(seen, dy, axes=([0, 1, 2], [0, 1, 2]))
    return dw


def _padded(x: np.ndarray, shape: ConvShape) -> np.ndarray:
    return np.pad(x.astype(np.float64), ((0, 0), *shape.padding, (0, 0)))


def _taps(padded: np.ndarray, shape: ConvShape) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """Each tap of the kernel, with a view of the pixels that it meets, one for each output pixel."""
    (kh, kw), (sh, sw), (_, ho, wo, _) = shape.kernel_size, shape.strides, shape.y_shape
    for i, j in np.ndindex(kh, kw):
        yield (i, j), padded[:, i : i + (ho - 1) * sh + 1 : sh, j : j + (wo - 1) * sw + 1 : sw]
