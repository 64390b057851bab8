"""Which entries of dO are kept, and what each of them carries.

For image n and output channel c, with s = Σ dO[n, :, :, c] and the k entries of largest |dO| (equal ones: the first in
row-major order):

    position[n, m, c] = where the entry lies,   value[n, m, c] = dO there + (s − Σ kept) / k,   k = 1: s itself

One program looks at some channels of one image. A look reads the planes once, tile by tile, and keeps for each lane of
the tile the largest |dO| it saw, where, and a sum; the lanes are put together at the end. The entry after one that is
known is found by another look at what comes later in the order (|dO| falling, position rising), so that nothing is
stored in between and nothing is written twice.

A NaN is never the larger one. The planes that have one carry NaN in every entry, through s, so it does not matter
which positions they get: those are in range.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from approxtrain_kernels.geometry import ConvShape
from approxtrain_kernels.pallas import triton
from approxtrain_kernels.pallas.choose import select_blocks
from approxtrain_kernels.pallas.model import Blocks

NOWHERE = 2**31 - 1


def select(dy: jax.Array, shape: ConvShape, k: int, *, interpret: bool) -> tuple[jax.Array, jax.Array]:
    """dy `[N, Ho, Wo, Co]` → position `[N, k, Co]` in row-major order, value `[N, k, Co]` in float32."""
    n, ho, wo, co = shape.y_shape
    blocks = select_blocks(shape, k)
    out = [jax.ShapeDtypeStruct((n, k, co), dtype) for dtype in (jnp.int32, jnp.float32)]
    run = triton.call(
        partial(_kernel, k=k, blocks=blocks),
        out,
        grid=(pl.cdiv(co, blocks.co), n),
        warps=blocks.warps,
        stages=blocks.stages,
        name="approx_select",
        interpret=interpret,
    )
    return tuple(run(dy.reshape(n, ho * wo, co)))


def _kernel(dy: Any, position_out: Any, value_out: Any, *, k: int, blocks: Blocks) -> None:
    image = pl.program_id(1)
    channel = pl.program_id(0) * blocks.co + jnp.arange(blocks.co, dtype=jnp.int32)
    inside = channel < dy.shape[2]
    position, value = entries(dy, image, channel, k, blocks.pixels)
    slot = jnp.arange(position.shape[0], dtype=jnp.int32)[:, None]
    mask = (slot < k) & inside[None, :]
    triton.store(position_out.at[image, slot, channel[None, :]], position, mask=mask)
    triton.store(value_out.at[image, slot, channel[None, :]], value, mask=mask)


def entries(dy: Any, image: jax.Array, channel: jax.Array, k: int, tile: int) -> tuple[jax.Array, jax.Array]:
    """The kept entries of one image's planes, for dy `[N, P, Co]`: position and value, both `[slots, channels]`.

    There are as many slots as the next power of two of k, which is all that Triton can hold; those after k are empty.
    """
    inside = channel < dy.shape[2]
    largest, position, total = _look(dy, image, channel, tile, None)
    if k == 1:
        return position[None, :], total[None, :]
    first = triton.load(dy.at[image, position, channel], inside).astype(jnp.float32)
    slot = jnp.arange(pl.next_power_of_2(k), dtype=jnp.int32)[:, None]
    start = (
        largest,
        position,
        first,
        jnp.where(slot == 0, position[None, :], 0),
        jnp.where(slot == 0, first[None, :], 0.0),
    )

    def next_entry(number, carry):
        largest, position, kept, positions, values = carry
        largest, position, _ = _look(dy, image, channel, tile, (largest, position))
        value = triton.load(dy.at[image, position, channel], inside).astype(jnp.float32)
        return (
            largest,
            position,
            kept + value,
            jnp.where(slot == number, position[None, :], positions),
            jnp.where(slot == number, value[None, :], values),
        )

    _, _, kept, positions, values = lax.fori_loop(1, k, next_entry, start)
    return positions, values + ((total - kept) / k)[None, :]


def _look(
    dy: Any, image: jax.Array, channel: jax.Array, tile: int, after: tuple[jax.Array, jax.Array] | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One pass over the planes: the largest |dO| that comes later than `after`, its position, and the plane's sum."""
    pixels, channels = dy.shape[1:]
    lane = jnp.arange(tile, dtype=jnp.int32)[:, None]
    lanes = (tile, channel.shape[0])

    def look_at(step, carry):
        largest, position, total = carry
        pixel = step * tile + lane
        inside = (pixel < pixels) & (channel < channels)[None, :]
        value = triton.load(dy.at[image, pixel, channel[None, :]], inside).astype(jnp.float32)
        size = jnp.where(inside, jnp.abs(value), -1.0)  # the edge must not win against a plane of NaN
        if after is not None:
            bound, at = after[0][None, :], after[1][None, :]
            size = jnp.where((size < bound) | ((size == bound) & (pixel > at)), size, -1.0)
        larger = size > largest  # not ≥: a lane keeps the first of equal ones
        return jnp.where(larger, size, largest), jnp.where(larger, pixel, position), total + value

    start = (jnp.full(lanes, -1.0, jnp.float32), jnp.zeros(lanes, jnp.int32), jnp.zeros(lanes, jnp.float32))
    largest, position, total = lax.fori_loop(0, pl.cdiv(pixels, tile), look_at, start)
    top = jnp.max(largest, axis=0)
    first = jnp.min(jnp.where(largest == top[None, :], position, NOWHERE), axis=0)
    return top, first, jnp.sum(total, axis=0)
