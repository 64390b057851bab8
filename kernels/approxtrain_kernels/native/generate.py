"""The code of a weight gradient on a CPU, for one shape and one width of vector registers.

    dW[i, j, ci, co] += Σ_{n, p, q}  x[n, p·s + i − lo, q·s + j − lo, ci] · dO[n, p, q, co]

A tile of dW stays in registers while the sum runs over all pixels of a group of images: `rows` input channels of a tap,
which lie side by side in x, times `columns` output channels. For each pixel it takes the loads of dO's vectors, `rows`
numbers of x that are spread over a register, and a multiply-add for each pair. The sum of a group is then added to dW:
so no sum has as many terms as there are pixels. Nothing is transposed, and what a tap sees of the border of zeros is
left out. Where there are few input channels, a tile has several taps of a row, which lie side by side as well: then x
has to have its border, and the images of a group are first copied to where there is one (`prepare`).

The work is cut into parts for threads (`cut`); `combine` adds up what they found, in a fixed order.
With r > 1 it is that of `pooled`: box sums of x stand in place of x, means of dO in place of dO, and r·s in place of s.
With `thin` it is that of `approx` in its dense form: dO is 0 but for one entry of each plane.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any, NamedTuple

from llvmlite import ir

from approxtrain_kernels.geometry import Pair
from approxtrain_kernels.native import prepare
from approxtrain_kernels.native.code import FLOATS, INDEX, Function, number, vectors_of
from approxtrain_kernels.native.cut import Cut
from approxtrain_kernels.native.look import look

Tiles = dict[tuple[int, int], ir.Function]
"""(rows, columns) → function."""


def module(cut: Cut) -> ir.Module:
    """`part(number, x, dy, dw, workspace)` and `combine(dw, workspace)`, which `entry.ll` calls."""
    found = ir.Module("wgrad")
    tiles = {
        (rows, columns): _tile(found, cut, rows, columns) for _, rows, _ in cut.rows for _, columns, _ in cut.blocks
    }
    looks = {columns: look(found, cut, columns) for _, columns, _ in cut.blocks} if cut.thin else {}
    _part(found, cut, tiles, looks)
    combine(found, cut)
    return found


def _tile(module: ir.Module, cut: Cut, rows: int, columns: int) -> ir.Function:
    """tile(x, dy, dw, images, height, width): dw `[rows, columns]` += the sum over so many pixels of the images."""
    co, ci, (sh, sw) = cut.shape.out_channels, cut.shape.in_channels, cut.strides
    code = Function(module, f"tile{rows}x{columns}", [*[FLOATS] * 3, *[INDEX] * 3], inline=False)
    build, (x, dy, dw, images, height, width) = code.build, code.arguments
    for pointer in (x, dy, dw):
        pointer.add_attribute("noalias")
    vectors = vectors_of(columns, cut.lanes)
    places = [code.vector(dw, r * co + first, vector) for r in range(rows) for first, vector in vectors]
    totals = [ir.Constant(vector, [0.0] * vector.count) for _ in range(rows) for _, vector in vectors]
    with code.loop(images, totals) as (n, by_image):
        x_image, dy_image = code.at(x, code.times(n, cut.image)), code.at(dy, code.times(n, cut.gradient))
        with code.loop(height, by_image) as (p, by_row):
            x_row = code.at(x_image, code.times(p, sh * cut.plane[1] * ci))
            dy_row = code.at(dy_image, code.times(p, cut.outputs[1] * co))
            with code.loop(width, by_row) as (q, sums):
                x_pixel, dy_pixel = code.at(x_row, code.times(q, sw * ci)), code.at(dy_row, code.times(q, co))
                right = [build.load(code.vector(dy_pixel, *one), align=4) for one in vectors]
                for at, (left, value) in enumerate(product([code.at(x_pixel, r) for r in range(rows)], right)):
                    sums[at] = code.multiply_add(build.load(left), value, sums[at])
            by_row[:] = sums
        by_image[:] = by_row
    for total, where in zip(by_image, places, strict=True):
        build.store(build.fadd(build.load(where, align=4), total), where, align=4)
    build.ret_void()
    return code.function


def _part(module: ir.Module, cut: Cut, tiles: Tiles, looks: prepare.Looks) -> None:
    """A share of the images and of the output channels, group by group."""
    shape = cut.shape
    co, weights = shape.out_channels, prod(shape.w_shape)
    code = Function(module, "part", [INDEX, *[FLOATS] * 4])
    build, (part, x, dy, dw, workspace) = code.build, code.arguments
    share, side = build.sdiv(part, number(cut.by_channels)), build.srem(part, number(cut.by_channels))
    first, last = (bound(code, share, step, shape.batch, cut.by_images) for step in (0, 1))
    columns = [bound(code, side, step, cut.blocks[0][2], cut.by_channels) for step in (0, 1)]
    total = code.at(workspace, code.times(build.sub(share, number(1)), weights))
    total = build.select(build.icmp_signed("==", share, number(0)), dw, total)
    own = code.at(workspace, (cut.by_images - 1) * weights, code.times(part, cut.own))
    prepare.borders(code, cut, own)
    low = code.times(columns[0], cut.tile[1])
    is_last = build.icmp_signed("==", side, number(cut.by_channels - 1))
    high = build.select(is_last, number(co), code.times(columns[1], cut.tile[1]))
    with code.loop(number(weights // co)) as (row, _):
        code.clear(code.at(total, code.times(row, co), low), build.sub(high, low))
    rest = build.select(is_last, number(1), number(0))
    groups = build.sdiv(build.add(build.sub(last, first), number(cut.images - 1)), number(cut.images))
    with code.loop(groups) as (group, _):
        start = build.add(first, code.times(group, cut.images))
        count = code.smaller(build.sub(last, start), number(cut.images))
        x_group, dy_group = prepare.group(code, cut, looks, own, x, dy, start, count)
        _taps(code, cut, tiles, Group(x_group, dy_group, total, count, columns[0], columns[1], rest))
    build.ret_void()


def bound(code: Function, number_: Any, step: int, size: int, shares: int) -> Any:
    """Where share `number_` + `step` of `shares` begins in `size`."""
    after = code.build.add(number_, number(step))
    return code.build.sdiv(code.times(after, size), number(shares))


class Group(NamedTuple):
    """A group of images in a part: where its operands lie, and which blocks of output channels are the part's."""

    x: Any
    dy: Any
    dw: Any
    images: Any
    low: Any
    high: Any
    rest: Any
    """1 where what is left of the output channels, beside whole blocks, is the part's; else 0."""


def _taps(code: Function, cut: Cut, tiles: Tiles, group: Group) -> None:
    """All tiles of the part for one group of images, tap by tap, or by rows of taps."""
    kh, kw = cut.shape.kernel_size
    for i in range(kh):
        for j in range(kw) if cut.by_tap else [0]:
            rows, columns = cut.reach(0, i), cut.reach(1, j) if cut.by_tap else (0, cut.outputs[1])
            if rows[1] > 0 and columns[1] > 0:
                _tap(code, cut, tiles, group, (i, j), (rows, columns))


def _tap(code: Function, cut: Cut, tiles: Tiles, group: Group, tap: Pair, reach: tuple[Pair, Pair]) -> None:
    """The tiles of one tap, or row of taps, over the outputs that it reaches: (first, count) of rows and of columns."""
    (i, j), ((p, height), (q, width)) = tap, reach
    build, ci, co = code.build, cut.shape.in_channels, cut.shape.out_channels
    top, left = (0, 0) if cut.copies else cut.corner
    row, column = p * cut.strides[0] + i - top, q * cut.strides[1] + j - left
    x = code.at(group.x, (row * cut.plane[1] + column) * ci)
    dy = code.at(group.dy, (p * cut.outputs[1] + q) * co)
    dw = code.at(group.dw, (i * cut.shape.kernel_size[1] + j) * ci * co)
    size = (group.images, number(height), number(width))
    for first, columns, _ in cut.blocks:
        low, count = group.low, build.sub(group.high, group.low)
        if columns != cut.tile[1]:
            low, count = number(0), group.rest
        with code.loop(count) as (block, _):
            at = build.add(number(first), code.times(build.add(low, block), columns))
            dy_block, dw_block = code.at(dy, at), code.at(dw, at)
            for line, rows, many in cut.rows:
                with code.loop(number(many)) as (tile, _):
                    at = build.add(number(line), code.times(tile, rows))
                    arguments = [code.at(x, at), dy_block, code.at(dw_block, code.times(at, co)), *size]
                    build.call(tiles[rows, columns], arguments)


def combine(module: ir.Module, cut: Cut) -> None:
    """dw += the dW of the other shares, one after the other."""
    weights = prod(cut.shape.w_shape)
    code = Function(module, "combine", [FLOATS, FLOATS])
    build, (dw, workspace) = code.build, code.arguments
    for pointer in (dw, workspace):
        pointer.add_attribute("noalias")
    with code.loop(number(weights)) as (at, _):
        place = code.at(dw, at)
        total = build.load(place)
        for share in range(cut.by_images - 1):
            total = build.fadd(total, build.load(code.at(workspace, share * weights, at)))
        build.store(total, place)
    build.ret_void()
