"""What every implementation is held against, in float64 and written from the equations.

    y[n, p, q, co]     = Σ_{i, j, ci}  x[n, p·s + i − lo, q·s + j − lo, ci] · w[i, j, ci, co]
    dx[n, h, w, ci]    = Σ_{i, j, co}  dy[n, p, q, co] · w[i, j, ci, co]      over (p, q) with h = p·s + i − lo, …
    dw[i, j, ci, co]   = Σ_{n, p, q}   x[n, p·s + i − lo, q·s + j − lo, ci] · dy[n, p, q, co]

Outside of x lies a zero. Whether a product with it counts shows where dy is not finite: 0 · ∞ is NaN.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from approxtrain_kernels import ConvShape

# N, H, W, Ci, Co, K, stride, padding
CASES = {
    "3x3": (3, 6, 5, 2, 3, 3, 1, "SAME"),
    "3x3 stride 2, even": (2, 6, 6, 2, 3, 3, 2, "SAME"),
    "3x3 stride 2, odd": (2, 7, 5, 2, 3, 3, 2, "SAME"),
    "1x1": (2, 4, 4, 3, 2, 1, 1, "SAME"),
    "1x1 stride 2": (2, 5, 5, 3, 2, 1, 2, "SAME"),
    "5x5": (2, 6, 6, 2, 2, 5, 1, "SAME"),
    "5x5 stride 2, valid": (2, 8, 9, 2, 2, 5, 2, "VALID"),
    "explicit padding": (2, 5, 6, 2, 2, 3, 2, ((2, 0), (1, 3))),
    "2x2 map": (3, 2, 2, 3, 4, 3, 1, "SAME"),
    "2x2 map, stride 2": (3, 2, 2, 3, 4, 3, 2, "SAME"),
    "1x1 map": (3, 1, 1, 3, 2, 5, 1, "SAME"),
    "9x9 map": (2, 9, 9, 2, 3, 3, 1, "SAME"),  # 81 pixels, looked at by 32: two blocks and a rest
}


def taps(shape: ConvShape) -> Iterator[tuple[int, int, np.ndarray, np.ndarray, np.ndarray]]:
    """For each tap (i, j): i, j, the rows `[Ho, 1]` and columns `[1, Wo]` of x that it sees, and which lie inside."""
    (_, height, width, _), (_, ho, wo, _) = shape.x_shape, shape.y_shape
    for i, j in np.ndindex(*shape.kernel_size):
        rows = (np.arange(ho) * shape.strides[0] + i - shape.padding[0][0])[:, None]
        columns = (np.arange(wo) * shape.strides[1] + j - shape.padding[1][0])[None, :]
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        yield i, j, rows.clip(0, height - 1), columns.clip(0, width - 1), inside


def forward(x: np.ndarray, w: np.ndarray, shape: ConvShape) -> np.ndarray:
    """y `[N, Ho, Wo, Co]`."""
    y = np.zeros(shape.y_shape)
    for i, j, rows, columns, inside in taps(shape):
        seen = np.where(inside[..., None], x[:, rows, columns].astype(np.float64), 0.0)
        y += seen @ w[i, j].astype(np.float64)
    return y


def dgrad(dy: np.ndarray, w: np.ndarray, shape: ConvShape) -> np.ndarray:
    """dx `[N, H, W, Ci]`."""
    dx = np.zeros(shape.x_shape)
    for i, j, rows, columns, inside in taps(shape):
        added = np.where(inside[..., None], dy.astype(np.float64) @ w[i, j].astype(np.float64).T, 0.0)
        np.add.at(dx, (slice(None), rows, columns), added)
    return dx


def wgrad(x: np.ndarray, dy: np.ndarray, shape: ConvShape, *, padding_counts: bool = True) -> np.ndarray:
    """dw `[Kh, Kw, Ci, Co]`. `padding_counts`: a product with a zero of the padding is taken, or left out."""
    dw = np.zeros(shape.w_shape)
    for i, j, rows, columns, inside in taps(shape):
        inside = inside[..., None, None]
        product = np.where(inside, x[:, rows, columns].astype(np.float64)[..., None], 0.0)
        product = product * dy.astype(np.float64)[..., None, :]
        dw[i, j] = (product if padding_counts else np.where(inside, product, 0.0)).sum((0, 1, 2))
    return dw


def keep_largest(dy: np.ndarray, k: int) -> np.ndarray:
    """Algorithm 1 of the paper with k entries of each plane: each keeps its value plus an equal share of what was
    dropped. Of equal ones the first in row-major order is kept; a NaN is the smallest."""
    n, ho, wo, co = dy.shape
    planes = dy.astype(np.float64).reshape(n, ho * wo, co)
    kept = np.zeros_like(planes)
    for image, channel in np.ndindex(n, co):
        plane = planes[image, :, channel]
        order = sorted(range(len(plane)), key=lambda at: 1.0 if np.isnan(plane[at]) else -abs(plane[at]))[:k]
        for at in order:
            dropped = plane.sum() - plane[order].sum()
            kept[image, at, channel] = plane.sum() if k == 1 else plane[at] + dropped / k
    return kept.reshape(dy.shape)


def block_means(dy: np.ndarray, r: int) -> np.ndarray:
    """Every entry replaced by the mean of those of its r×r block that there are."""
    means = np.empty(dy.shape)
    for top, left in np.ndindex(*(-(-size // r) for size in dy.shape[1:3])):
        block = np.s_[:, top * r : top * r + r, left * r : left * r + r]
        means[block] = dy[block].astype(np.float64).mean((1, 2), keepdims=True)
    return means


def close(computed: object, exact: np.ndarray, tolerance: float = 1e-5) -> None:
    """Assert NaN and infinity at the same places, and all else within `tolerance` of the largest entry."""
    computed = np.asarray(computed, np.float64)
    np.testing.assert_array_equal(np.isnan(computed), np.isnan(exact))
    np.testing.assert_array_equal(computed[np.isinf(exact)], exact[np.isinf(exact)])
    finite = np.isfinite(exact)
    assert np.isfinite(computed[finite]).all()
    largest = max(np.abs(exact[finite]).max(initial=0.0), 1e-30)
    assert np.abs(computed[finite] - exact[finite]).max(initial=0.0) <= tolerance * largest
