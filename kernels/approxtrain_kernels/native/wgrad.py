"""The code of a weight gradient on a CPU, for one shape and one width of vector registers.

    dW[i, j, ci, co] += Σ_{n, p, q}  x[n, p·s + i − lo, q·s + j − lo, ci] · dO[n, p, q, co]

A tile of dW stays in registers while the sum runs over all pixels of a group of images: `rows` input channels of a tap,
which lie side by side in x, times `columns` output channels. For each pixel it takes the loads of dO's vectors, `rows`
numbers of x that are spread over a register, and a multiply-add for each pair. The sum of a group is then added to dW:
so no sum has as many terms as there are pixels. Nothing is transposed, and what a tap sees of the border of zeros is
left out. Where there are few input channels, a tile has several taps of a row, which lie side by side as well: then x
has to have its border, and the images of a group are first copied to where there is one (`pack`).

The work is divided into slices for threads (`wgrad_tiling`); `combine` adds up their dW, in a fixed order.
With r > 1 it is that of `pooled`: box sums of x stand in place of x, means of dO in place of dO, and r·s in place of s.
With `scatter_top1` it is that of `approx` in its dense form: dO is 0 but for one entry of each plane.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any, NamedTuple

from llvmlite import ir

from approxtrain_kernels.geometry import Pair
from approxtrain_kernels.native import pack
from approxtrain_kernels.native.builder import FLOATS, INDEX, Function, Share, number, vectors_of
from approxtrain_kernels.native.kernel import Size
from approxtrain_kernels.native.wgrad_tiling import WgradTiling


class Wgrad(WgradTiling):
    """dw `[Kh, Kw, Ci, Co]` from x `[N, H, W, Ci]` and dy `[N, Ho, Wo, Co]`."""

    @property
    def name(self) -> str:
        return "scatter_top1" if self.scatter_top1 else "wgrad"

    @property
    def result(self) -> Size:
        return self.shape.w_shape

    @property
    def sizes(self) -> tuple[int, ...]:
        return (*super().sizes, self.r)

    def module(self) -> ir.Module:
        module = ir.Module("wgrad")
        _slice(module, self)
        combine(module, self)
        return module


def _tile(module: ir.Module, tiling: WgradTiling, rows: int, columns: int) -> ir.Function:
    """tile(x, dy, dw, images, height, width): dw `[rows, columns]` += the sum over so many pixels of the images."""
    co, ci, (sh, sw) = tiling.shape.out_channels, tiling.shape.in_channels, tiling.strides
    name = f"tile{rows}x{columns}"
    if name in module.globals:
        return module.globals[name]
    code = Function(module, name, [*[FLOATS] * 3, *[INDEX] * 3], inline=False, apart=True)
    build, (x, dy, dw, images, height, width) = code.build, code.arguments
    vectors = vectors_of(columns, tiling.lanes)
    pointers = [code.vector(dw, r * co + first, vector) for r in range(rows) for first, vector in vectors]
    totals = [ir.Constant(vector, [0.0] * vector.count) for _ in range(rows) for _, vector in vectors]
    with code.loop(images, totals) as (n, by_image):
        x_image, dy_image = code.at(x, code.times(n, tiling.image)), code.at(dy, code.times(n, tiling.gradient))
        with code.loop(height, by_image) as (p, by_row):
            x_row = code.at(x_image, code.times(p, sh * tiling.plane[1] * ci))
            dy_row = code.at(dy_image, code.times(p, tiling.outputs[1] * co))
            with code.loop(width, by_row) as (q, sums):
                x_pixel, dy_pixel = code.at(x_row, code.times(q, sw * ci)), code.at(dy_row, code.times(q, co))
                right = [build.load(code.vector(dy_pixel, *vector), align=4) for vector in vectors]
                left = [code.at(x_pixel, r) for r in range(rows)]
                for index, (pointer, value) in enumerate(product(left, right)):  # sums: [rows, vectors]
                    sums[index] = code.multiply_add(build.load(pointer), value, sums[index])
            by_row[:] = sums
        by_image[:] = by_row
    for total, pointer in zip(by_image, pointers, strict=True):
        build.store(build.fadd(build.load(pointer, align=4), total), pointer, align=4)
    build.ret_void()
    return code.function


def _slice(module: ir.Module, tiling: WgradTiling) -> None:
    """A share of the images and of the output channels, group by group."""
    shape = tiling.shape
    co, weights = shape.out_channels, prod(shape.w_shape)
    code = Function(module, "slice", [INDEX, *[FLOATS] * 4])
    build, (slice_number, x, dy, dw, workspace) = code.build, code.arguments
    share = Share(code, slice_number, shape.batch, tiling.blocks[0][2], tiling.image_shares, tiling.channel_shares)
    total = own_sums(code, tiling, share, dw, workspace)
    scratch = code.at(workspace, tiling.partial_sums, code.times(slice_number, tiling.scratch))
    pack.borders(code, tiling, scratch)
    low = code.times(share.low, tiling.tile[1])
    high = build.select(share.is_last, number(co), code.times(share.high, tiling.tile[1]))
    with code.loop(number(weights // co)) as (row, _):  # dW as [Kh·Kw·Ci, Co]
        code.clear(code.at(total, code.times(row, co), low), build.sub(high, low))
    with share.groups(tiling.group) as (start, count):
        x_group, dy_group = pack.group(code, tiling, scratch, x, dy, start, count)
        _taps(code, tiling, Group(x_group, dy_group, total, count, share))
    build.ret_void()


def own_sums(code: Function, tiling: WgradTiling, share: Share, dw: Any, workspace: Any) -> Any:
    """Where a slice adds up: the result itself for the first share of the images, a dW of the workspace for others."""
    weights = prod(tiling.shape.w_shape)
    partial = code.at(workspace, code.times(code.build.sub(share.number, number(1)), weights))
    return code.build.select(code.build.icmp_signed("==", share.number, number(0)), dw, partial)


class Group(NamedTuple):
    """A group of images in a slice: pointers to what the tiles read and write, and the blocks that are the slice's."""

    x: Any
    dy: Any
    dw: Any
    images: Any
    share: Share


def _taps(code: Function, tiling: WgradTiling, group: Group) -> None:
    """All tiles of the slice for one group of images, tap by tap, or by rows of taps."""
    kh, kw = tiling.shape.kernel_size
    for i in range(kh):
        for j in range(kw) if tiling.by_tap else [0]:
            rows, columns = tiling.reach(0, i), tiling.reach(1, j) if tiling.by_tap else (0, tiling.outputs[1])
            if rows[1] > 0 and columns[1] > 0:
                _tap(code, tiling, group, (i, j), (rows, columns))


def _tap(code: Function, tiling: WgradTiling, group: Group, tap: Pair, reach: tuple[Pair, Pair]) -> None:
    """The tiles of one tap, or row of taps, over the outputs that it reaches: (first, count) of rows and of columns."""
    (i, j), ((p, height), (q, width)) = tap, reach
    build, ci, co = code.build, tiling.shape.in_channels, tiling.shape.out_channels
    top, left = (0, 0) if tiling.copies else tiling.corner
    row, column = p * tiling.strides[0] + i - top, q * tiling.strides[1] + j - left
    x = code.at(group.x, (row * tiling.plane[1] + column) * ci)
    dy = code.at(group.dy, (p * tiling.outputs[1] + q) * co)
    dw = code.at(group.dw, (i * tiling.shape.kernel_size[1] + j) * ci * co)
    size = (group.images, number(height), number(width))
    for columns, channel in group.share.blocks(co, tiling.tile[1]):
        dy_block, dw_block = code.at(dy, channel), code.at(dw, channel)
        for line, rows, many in tiling.rows:
            with code.loop(number(many)) as (tile, _):
                at = build.add(number(line), code.times(tile, rows))
                arguments = [code.at(x, at), dy_block, code.at(dw_block, code.times(at, co)), *size]
                build.call(_tile(code.module, tiling, rows, columns), arguments)


def combine(module: ir.Module, tiling: WgradTiling) -> None:
    """combine(dw, workspace): dw += the dW of the other shares of the images, one after the other."""
    weights = prod(tiling.shape.w_shape)
    code = Function(module, "combine", [FLOATS, FLOATS], apart=True)
    build, (dw, workspace) = code.build, code.arguments
    with code.loop(number(weights)) as (index, _):
        pointer = code.at(dw, index)
        total = build.load(pointer)
        for share in range(tiling.image_shares - 1):
            total = build.fadd(total, build.load(code.at(workspace, share * weights, index)))
        build.store(total, pointer)
    build.ret_void()
