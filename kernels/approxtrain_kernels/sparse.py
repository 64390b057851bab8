"""The weight gradient of an output gradient that is zero but for k positions of each image and channel; at one that is
named twice it is the sum.

    dW[i, j, ci, co] = Σ_{n, m}  value[n, m, co] · x[n, row(n, m, co)·s + i − lo, col(n, m, co)·s + j − lo, ci]

Two forms of the same sum: `gather` fetches the patches (k·N·Co·Kh·Kw·Ci multiply-adds, no convolution), `dense` writes
the values back into a gradient of zeros and takes the exact wgrad of that.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from approxtrain_kernels import dense
from approxtrain_kernels.geometry import ConvShape
from approxtrain_kernels.precision import wide

TOGETHER = 32
"""Pixels that `select_largest` looks at in one go of its loop."""
COMPARED = 8
"""Up to this many kept entries, `scattered` compares positions; beyond, it scatters."""


def select_largest(dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """For each image and channel of dy `[N, Ho, Wo, Co]`: the position of the largest |dy| and the sum of dy.

    → (position `[N, 1, Co]` in row-major order, sum `[N, 1, Co]`, `wide`). The first of equal ones is taken. One
    pass, vectorised over images and channels, TOGETHER pixels at a time: what is carried along stays in registers.
    """
    n, ho, wo, co = dy.shape
    pixels, count = dy.reshape(n, ho * wo, co), ho * wo
    together = min(TOGETHER, count)

    def look_at(some: jax.Array, first: Any, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        largest, position, total = carry
        for pixel in range(some.shape[1]):
            value = wide(some[:, pixel])
            larger = jnp.abs(value) > largest
            largest = jnp.where(larger, jnp.abs(value), largest)
            position = jnp.where(larger, first + pixel, position)
            total = total + value  # a NaN anywhere in the plane reaches dW through the sum
        return largest, position, total

    def look_at_block(block: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        first = block * together
        return look_at(lax.dynamic_slice_in_dim(pixels, first, together, 1), first, carry)

    blocks = count // together
    nothing = jnp.zeros_like(wide(dy[:, 0, 0]))
    carry = (nothing - 1, jnp.zeros((n, co), jnp.int32), nothing)
    carry = lax.fori_loop(0, blocks, look_at_block, carry)
    _, position, total = look_at(pixels[:, blocks * together :], blocks * together, carry)
    return position[:, None], total[:, None]


def select_top(dy: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """The k largest |dy| of each image and channel, and what each of them carries: `v + (s − Σ kept) / k`.

    → (position `[N, k, Co]`, value `[N, k, Co]`, `wide`). The first of equal ones is taken.
    """
    n, ho, wo, co = dy.shape
    planes = wide(dy).reshape(n, ho * wo, co).transpose(0, 2, 1)  # [N, Co, P]
    _, position = lax.top_k(jnp.abs(planes), k)
    total = planes.sum(-1, keepdims=True)
    kept = jnp.take_along_axis(planes, position, axis=-1)
    # v + (s − v) is s, but not where both are infinite
    value = total if k == 1 else kept + (total - kept.sum(-1, keepdims=True)) / k
    return position.transpose(0, 2, 1), value.transpose(0, 2, 1)


def wgrad(x: jax.Array, position: jax.Array, value: jax.Array, shape: ConvShape, *, gather_on_cpu: bool) -> jax.Array:
    """dw `[Kh, Kw, Ci, Co]` in the type of the values: patches are fetched on a CPU if that is said to pay there.

    On anything else it is the dense form: a loop over images would launch a kernel for each.
    """
    if not gather_on_cpu:
        return dense_form(x, position, value, shape)
    return lax.platform_dependent(
        x,
        position,
        value,
        cpu=partial(gather, shape=shape),
        default=partial(dense_form, shape=shape),
    )


def gather(x: jax.Array, position: jax.Array, value: jax.Array, shape: ConvShape) -> jax.Array:
    """Fetch and add the patches, one image after the other: the only temporary is one image's patches."""
    (kh, kw), (sh, sw) = shape.kernel_size, shape.strides
    padded = jnp.pad(x, ((0, 0), *shape.padding, (0, 0)))
    n, height, width, ci = padded.shape
    pixels = padded.reshape(n, height * width, ci)
    wo = shape.y_shape[2]
    corner = (position // wo * sh) * width + position % wo * sw  # [N, k, Co]
    tap = np.arange(kh)[:, None] * width + np.arange(kw)[None, :]  # offsets of the patch's pixels from its corner
    where = corner[:, None] + tap.reshape(-1)[None, :, None, None]  # [N, taps, k, Co]

    def add_image(image, total):
        patches = pixels[image][where[image]]  # [taps, k, Co, Ci]
        return total + (wide(patches) * value[image][None, :, :, None]).sum(1)

    total = lax.fori_loop(0, n, add_image, jnp.zeros((kh * kw, shape.out_channels, ci), value.dtype))
    return total.transpose(0, 2, 1).reshape(shape.w_shape)


def dense_form(x: jax.Array, position: jax.Array, value: jax.Array, shape: ConvShape) -> jax.Array:
    """Write the values into a gradient of zeros and take its exact weight gradient."""
    # The barriers keep XLA from computing positions and dO' once for each use in the transpose that follows.
    position, value = lax.optimization_barrier((position, value))
    planes = lax.optimization_barrier(scattered(position, value, shape).astype(x.dtype))
    return dense.wgrad(x, planes, shape).astype(value.dtype)


def scattered(position: jax.Array, value: jax.Array, shape: ConvShape) -> jax.Array:
    """dO' `[N, Ho, Wo, Co]`: the values in their places, zeros elsewhere."""
    n, ho, wo, co = shape.y_shape
    k = position.shape[1]
    if k > COMPARED:
        image, channel = jnp.arange(n)[:, None, None], jnp.arange(co)[None, None, :]
        planes = jnp.zeros((n, ho * wo, co), value.dtype).at[image, position, channel].add(value)
    else:  # each entry asks whether it is kept: a pass that writes, where a scatter goes entry by entry
        pixel = jnp.arange(ho * wo)[None, :, None]
        planes = jnp.zeros((n, ho * wo, co), value.dtype)
        for m in range(k):
            planes += jnp.where(position[:, m : m + 1] == pixel, value[:, m : m + 1], 0)
    return planes.reshape(n, ho, wo, co)
