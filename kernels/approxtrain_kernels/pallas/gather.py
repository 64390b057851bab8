"""The weight gradient of k entries a plane, by fetching the patches that those entries saw.

    dW[i, j, ci, co] = Σ_{n, m}  value[n, m, co] · x[n, row·s + i − lo, col·s + j − lo, ci],    (row, col) = position

One program owns a block of output channels, a block of input channels and a share ("split") of the images. It holds
the Kh·Kw tiles `[co, ci]` of dW in registers, in float32, and walks over its images: it loads the positions and values
of its channels, and for each tap the pixels they look at, by index arrays. Taps outside of the image read as 0, and
are multiplied like all others, so that a NaN or an infinity in dO is not lost at the border.

An image's pixels are read Co·Kh·Kw times in all, each time one multiply-add: memory decides. Images are the outer
loop, so that the taps and channels of one image follow each other and find it in the L1 cache; blocks of channels are
the inner axes of the grid, so that programs that read the same images run at the same time and find them in L2.

Every program stores once, into its own place, and XLA adds the splits in a fixed order: no atomics, and the same bits
on every run. `fused` selects the entries in the same program (one launch less, but each block of input channels looks
at dO again): for small layers launches are the time.
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
from approxtrain_kernels.pallas.model import Blocks
from approxtrain_kernels.pallas.select import entries


def gather(
    x: jax.Array, position: jax.Array, value: jax.Array, shape: ConvShape, blocks: Blocks, *, interpret: bool
) -> jax.Array:
    """dw `[Kh, Kw, Ci, Co]` in float32 from the kept entries `[N, k, Co]`."""
    kernel = partial(_gather_kernel, shape=shape, blocks=blocks)
    return run(kernel, (x, position, value), "approx_gather", shape, blocks, interpret)


def fused(x: jax.Array, dy: jax.Array, shape: ConvShape, k: int, blocks: Blocks, *, interpret: bool) -> jax.Array:
    """dw `[Kh, Kw, Ci, Co]` in float32 from dy `[N, Ho, Wo, Co]`: entries and patches in one kernel."""
    n, ho, wo, co = shape.y_shape
    kernel = partial(_fused_kernel, shape=shape, k=k, blocks=blocks)
    return run(kernel, (x, dy.reshape(n, ho * wo, co)), "approx_fused", shape, blocks, interpret)


def run(kernel: Any, arrays: Any, name: str, shape: ConvShape, blocks: Blocks, interpret: bool) -> jax.Array:
    """Run a kernel that stores one tile of dW for each tap, program and split, and add the splits."""
    taps = shape.kernel_size[0] * shape.kernel_size[1]
    channels = (shape.in_channels, shape.out_channels)
    call = triton.call(
        kernel,
        jax.ShapeDtypeStruct((blocks.splits, taps, *channels), jnp.float32),
        grid=(pl.cdiv(channels[1], blocks.co), pl.cdiv(channels[0], blocks.ci), blocks.splits),
        warps=blocks.warps,
        stages=blocks.stages,
        name=name,
        interpret=interpret,
    )
    partial_sums = call(*arrays)
    total = partial_sums[0] if blocks.splits == 1 else partial_sums.sum(0)
    return total.reshape(shape.w_shape)


def _gather_kernel(x: Any, position: Any, value: Any, out: Any, *, shape: ConvShape, blocks: Blocks) -> None:
    co, ci = channels(blocks)
    k, inside = position.shape[1], co < shape.out_channels
    share = pl.cdiv(shape.batch, blocks.splits)
    first = pl.program_id(2) * share

    def fetch(number):
        """Entry `number` of this split: image, and the positions and values of the channels."""
        image, slot = first + lax.div(number, k), lax.rem(number, k)
        mask = inside & (image < shape.batch)
        return image, triton.load(position.at[image, slot, co], mask), triton.load(value.at[image, slot, co], mask)

    def add_entry(number, carry):
        (image, at, carried), totals = carry
        ahead = fetch(number + 1)  # asked for before it is needed: positions and then pixels are two waits in a row
        return ahead, add_patches(x, image, at, carried, ci, totals, shape)

    _, totals = lax.fori_loop(0, share * k, add_entry, (fetch(0), zeros(shape, blocks)))
    store(out, totals, co, ci, shape)


def _fused_kernel(x: Any, dy: Any, out: Any, *, shape: ConvShape, k: int, blocks: Blocks) -> None:
    co, ci = channels(blocks)
    share = pl.cdiv(shape.batch, blocks.splits)
    first = pl.program_id(2) * share

    def add_image(number, totals):
        image = first + number
        # past the last image of an uneven share: look at the last one again, and add nothing
        at, carried = entries(dy, jnp.minimum(image, shape.batch - 1), co, k, blocks.pixels)
        carried = jnp.where(image < shape.batch, carried, 0.0)
        if k == 1:
            return add_patches(x, image, at.reshape(-1), carried.reshape(-1), ci, totals, shape)
        slot = jnp.arange(at.shape[0], dtype=jnp.int32)[:, None]

        def add_entry(entry, totals):
            at_entry = jnp.sum(jnp.where(slot == entry, at, 0), axis=0)
            carried_entry = jnp.sum(jnp.where(slot == entry, carried, 0.0), axis=0)
            return add_patches(x, image, at_entry, carried_entry, ci, totals, shape)

        return lax.fori_loop(0, k, add_entry, totals)

    store(out, lax.fori_loop(0, share, add_image, zeros(shape, blocks)), co, ci, shape)


def channels(blocks: Blocks) -> tuple[jax.Array, jax.Array]:
    """The output and the input channels of this program; some may lie past the last one."""
    co = pl.program_id(0) * blocks.co + jnp.arange(blocks.co, dtype=jnp.int32)
    ci = pl.program_id(1) * blocks.ci + jnp.arange(blocks.ci, dtype=jnp.int32)
    return co, ci


def zeros(shape: ConvShape, blocks: Blocks) -> tuple[jax.Array, ...]:
    """One tile `[co, ci]` for each tap."""
    taps = shape.kernel_size[0] * shape.kernel_size[1]
    return (jnp.zeros((blocks.co, blocks.ci), jnp.float32),) * taps


def add_patches(
    x: Any,
    image: jax.Array,
    position: jax.Array,
    value: jax.Array,
    ci: jax.Array,
    totals: tuple[jax.Array, ...],
    shape: ConvShape,
) -> tuple[jax.Array, ...]:
    """total[tap] += value · x at that tap, for one entry of each output channel; nothing where there is no image."""
    return tuple(
        total + value[:, None] * tile.astype(jnp.float32)
        for total, tile in zip(totals, pixels_seen(x, image, position, ci, shape), strict=True)
    )


def pixels_seen(x: Any, image: jax.Array, position: jax.Array, ci: jax.Array, shape: ConvShape):
    """For each tap the tile `[positions, ci]` of x that output positions see through it, 0 outside of the images.

    `image` is one number, or one for each position.
    """
    (kh, kw), (sh, sw), ((top, _), (left, _)) = shape.kernel_size, shape.strides, shape.padding
    width = shape.y_shape[2]
    row, col = lax.div(position, width) * sh - top, lax.rem(position, width) * sw - left
    there = image < shape.batch
    image = image if image.ndim == 0 else image[:, None]
    for i in range(kh):
        for j in range(kw):
            r, c = row + i, col + j
            inside = there & (r >= 0) & (r < shape.height) & (c >= 0) & (c < shape.width)
            mask = inside[:, None] & (ci < shape.in_channels)[None, :]
            yield triton.load(x.at[image, r[:, None], c[:, None], ci[None, :]], mask)


def store(out: Any, totals: tuple[jax.Array, ...], co: jax.Array, ci: jax.Array, shape: ConvShape) -> None:
    """Each tile to its place in out `[splits, taps, Ci, Co]`; the compiler turns it so that Co runs along the lanes."""
    mask = (co < shape.out_channels)[:, None] & (ci < shape.in_channels)[None, :]
    for tap, total in enumerate(totals):
        triton.store(out.at[pl.program_id(2), tap, ci[None, :], co[:, None]], total, mask=mask)
