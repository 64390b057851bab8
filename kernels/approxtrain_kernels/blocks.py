"""Blocks of r×r pixels: R, their means; P, copies of a mean all over its block; A = P R.

A block at the lower or right edge that is not whole averages what it has.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from approxtrain_kernels.precision import wide


def means(image: jax.Array, r: int) -> jax.Array:
    """R: `[N, H, W, C]` → `[N, ⌈H / r⌉, ⌈W / r⌉, C]`."""
    n, height, width, channels = image.shape
    rows, columns = -(-height // r), -(-width // r)
    whole = jnp.pad(wide(image), ((0, 0), (0, rows * r - height), (0, columns * r - width), (0, 0)))
    # slices in place of a reduction, which XLA's CPU backend does not turn into vector code
    down = sum((whole[:, a::r] for a in range(1, r)), whole[:, ::r])
    sums = sum((down[:, :, b::r] for b in range(1, r)), down[:, :, ::r])
    counts = [jnp.minimum(r, size - r * jnp.arange(count)) for size, count in ((height, rows), (width, columns))]
    return (sums / (counts[0][:, None] * counts[1])[..., None]).astype(image.dtype).reshape(n, rows, columns, channels)


def copies(of_blocks: jax.Array, r: int, size: tuple[int, ...]) -> jax.Array:
    """P: as large as `size` `[N, H, W, C]`."""
    _, height, width, _ = size
    return jnp.repeat(jnp.repeat(of_blocks, r, 1), r, 2)[:, :height, :width]


def projected(image: np.ndarray, r: int) -> np.ndarray:
    """A of an image, in float64."""
    smooth = image.astype(np.float64)
    for top in range(0, image.shape[1], r):
        for left in range(0, image.shape[2], r):
            block = np.s_[:, top : top + r, left : left + r]
            smooth[block] = smooth[block].mean((1, 2), keepdims=True)
    return smooth
