"""The same sum as `gather` on tensor cores: B · A for each tap, where B is mostly zeros.

    A[r, ci]  = the pixel that row r = (image, channel) sees through the tap
    B[co, r]  = value[r] where row r belongs to channel co, else 0
    dW[tap]  += B · A          summed in float32

A step takes a few images of 16 output channels. Fifteen of sixteen products are by a zero; in return the multiply-adds
leave the float32 units, and the loads are pipelined through shared memory.

bfloat16: a value is split into two bfloat16 numbers whose sum it is, to 16 bits. float32 and float16 are multiplied as
TF32, which holds a float16 exactly; so this form is not for those who asked for more than TF32.
A NaN or an infinity in a fetched pixel of x reaches all 16 channels of the block, since zero times it is NaN.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from approxtrain_kernels.geometry import ConvShape
from approxtrain_kernels.pallas import gather, triton
from approxtrain_kernels.pallas.model import Blocks


def tensor(
    x: jax.Array, position: jax.Array, value: jax.Array, shape: ConvShape, blocks: Blocks, *, interpret: bool
) -> jax.Array:
    """dw `[Kh, Kw, Ci, Co]` in float32 from the kept entries `[N, k, Co]`."""
    kernel = partial(_kernel, shape=shape, blocks=blocks)
    return gather.run(kernel, (x, position, value), "approx_tensor", shape, blocks, interpret)


def _kernel(x: Any, position: Any, value: Any, out: Any, *, shape: ConvShape, blocks: Blocks) -> None:
    co, ci = gather.channels(blocks)
    k, share = position.shape[1], pl.cdiv(shape.batch, blocks.splits)
    first = pl.program_id(2) * share
    last = jnp.minimum(first + share, shape.batch)
    row = jnp.arange(blocks.images * blocks.co, dtype=jnp.int32)
    row_co = pl.program_id(0) * blocks.co + lax.rem(row, blocks.co)
    owns = co[:, None] == row_co[None, :]

    def fetch(number):
        """Step `number`: the image of each row, or one past the last where there is none; its position and value."""
        image = first + lax.div(number, k) * blocks.images + lax.div(row, blocks.co)
        image = jnp.where(image < last, image, shape.batch)
        mask, slot = (image < last) & (row_co < shape.out_channels), lax.rem(number, k)
        at, carried = position.at[image, slot, row_co], value.at[image, slot, row_co]
        return image, triton.load(at, mask), triton.load(carried, mask)

    def add_rows(number, carry):
        (image, at, carried), totals = carry
        ahead = fetch(number + 1)
        spread = jnp.where(owns, carried[None, :], 0.0)
        seen = gather.pixels_seen(x, image, at, ci, shape)
        return ahead, tuple(total + _product(spread, tile) for total, tile in zip(totals, seen, strict=True))

    steps = pl.cdiv(share, blocks.images) * k
    _, totals = lax.fori_loop(0, steps, add_rows, (fetch(0), gather.zeros(shape, blocks)))
    gather.store(out, totals, co, ci, shape)


def _product(spread: jax.Array, tile: jax.Array) -> jax.Array:
    if tile.dtype != jnp.bfloat16:
        return triton.dot(spread, tile.astype(jnp.float32), allow_tf32=True)
    high = spread.astype(jnp.bfloat16)
    rest = spread - high.astype(jnp.float32)
    low = jnp.where(jnp.abs(spread) < jnp.inf, rest, 0.0).astype(jnp.bfloat16)  # ∞ − ∞ would be NaN
    return triton.dot(high, tile) + triton.dot(low, tile)
