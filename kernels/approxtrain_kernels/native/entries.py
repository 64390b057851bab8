"""The code of `approx` with k = 1 on a CPU: one entry of each plane of dO, and the patch of x that it saw.

    m(n, co) = argmax_pq |dO[n, p, q, co]|        s(n, co) = Σ_pq dO[n, p, q, co]
    dW[i, j, ci, co] = Σ_n  s · x[n, row(m)·s + i − lo, col(m)·s + j − lo, ci]

One pass over dO finds m and s of a group of images, whose x then lies in the second-level cache. The patches are added
up channel by channel, so that a channel's Kh·Kw·Ci sums stay in the first-level cache; taps outside of the image are
left out. Nothing is copied. The result is `[Co, Kh, Kw, Ci]`, in which a pixel's numbers are neighbours.
"""

from __future__ import annotations

from math import prod
from typing import Any

from llvmlite import ir

from approxtrain_kernels.native.code import FLOAT, FLOATS, INDEX, Function, number
from approxtrain_kernels.native.cut import Cut, pieces
from approxtrain_kernels.native.generate import bound, combine
from approxtrain_kernels.native.look import POSITIONS, look


def module(cut: Cut) -> ir.Module:
    """`part(number, x, dy, dw, workspace)` and `combine(dw, workspace)`, which `entry.ll` calls."""
    found = ir.Module("approx")
    looks = {columns: look(found, cut, columns) for _, columns, _ in cut.blocks}
    _part(found, cut, looks, _fetch(found, cut))
    combine(found, cut)
    return found


def workspace(cut: Cut) -> int:
    """Numbers: the dW of all shares but the first; for each part, position and sum of a group's images and channels."""
    return max((cut.by_images - 1) * prod(cut.shape.w_shape) + cut.parts * _own(cut), 1)


def _own(cut: Cut) -> int:
    return 2 * cut.images * cut.shape.out_channels


def _fetch(module: ir.Module, cut: Cut) -> ir.Function:
    """fetch(x, position, total, dw, images): one channel's dw `[Kh, Kw, Ci]` += the patches of its entries."""
    shape = cut.shape
    ci, co, wo = shape.in_channels, shape.out_channels, shape.y_shape[2]
    code = Function(module, "fetch", [FLOATS, POSITIONS, FLOATS, FLOATS, INDEX])
    build, (x, position, total, dw, images) = code.build, code.arguments
    with code.loop(images) as (n, _):
        image = code.at(x, code.times(n, prod(shape.x_shape[1:])))
        at = build.zext(build.load(build.gep(position, [code.times(n, co)])), INDEX)
        value = build.load(code.at(total, code.times(n, co)))
        row = build.sub(code.times(build.udiv(at, number(wo)), shape.strides[0]), number(shape.padding[0][0]))
        column = build.sub(code.times(build.urem(at, number(wo)), shape.strides[1]), number(shape.padding[1][0]))
        for i in range(shape.kernel_size[0]):
            r = build.add(row, number(i))
            with build.if_then(build.icmp_unsigned("<", r, number(shape.height))):
                line = code.at(image, code.times(r, shape.width * ci))
                for j in range(shape.kernel_size[1]):
                    c = build.add(column, number(j))
                    with build.if_then(build.icmp_unsigned("<", c, number(shape.width))):
                        tap = code.at(dw, (i * shape.kernel_size[1] + j) * ci)
                        _add(code, cut, tap, code.at(line, code.times(c, ci)), value)
    build.ret_void()
    return code.function


def _add(code: Function, cut: Cut, to: Any, pixel: Any, value: Any) -> None:
    """to[ci] += value · pixel[ci]."""
    for first, size, many in pieces(cut.shape.in_channels, cut.lanes):
        kind = ir.VectorType(FLOAT, size)
        with code.loop(number(many)) as (number_, _):
            at = code.times(number_, size)
            place = code.vector(code.at(to, at), first, kind)
            read = code.build.load(code.vector(code.at(pixel, at), first, kind), align=4)
            code.build.store(code.multiply_add(value, read, code.build.load(place, align=4)), place, align=4)


def _part(module: ir.Module, cut: Cut, looks: dict[int, ir.Function], fetch: ir.Function) -> None:
    """A share of the images and of the output channels, group by group."""
    shape = cut.shape
    co, weights = shape.out_channels, prod(shape.w_shape)
    code = Function(module, "part", [INDEX, *[FLOATS] * 4])
    build, (part, x, dy, dw, workspace) = code.build, code.arguments
    share, side = build.sdiv(part, number(cut.by_channels)), build.srem(part, number(cut.by_channels))
    first, last = (bound(code, share, step, shape.batch, cut.by_images) for step in (0, 1))
    low, high, rest = side_of(code, cut, side)
    total = code.at(workspace, code.times(build.sub(share, number(1)), weights))
    total = build.select(build.icmp_signed("==", share, number(0)), dw, total)
    sums = code.at(workspace, (cut.by_images - 1) * weights, code.times(part, _own(cut)))
    places = build.bitcast(code.at(sums, cut.images * co), POSITIONS)
    begin = code.times(low, cut.tile[1])
    end = build.select(build.icmp_signed("==", rest, number(1)), number(co), code.times(high, cut.tile[1]))
    code.clear(code.at(total, code.times(begin, weights // co)), code.times(build.sub(end, begin), weights // co))
    groups = build.sdiv(build.add(build.sub(last, first), number(cut.images - 1)), number(cut.images))
    with code.loop(groups) as (group, _):
        start = build.add(first, code.times(group, cut.images))
        count = code.smaller(build.sub(last, start), number(cut.images))
        with code.loop(count) as (n, _):
            image = code.at(dy, code.times(build.add(start, n), prod(shape.y_shape[1:])))
            for where, columns, _many in cut.blocks:
                whole = columns == cut.tile[1]
                with code.loop(build.sub(high, low) if whole else rest) as (block, _):
                    channel = code.times(build.add(low, block), columns) if whole else number(where)
                    at = build.add(code.times(n, co), channel)
                    own = [build.gep(places, [at]), code.at(sums, at)]
                    build.call(looks[columns], [code.at(image, channel), *own])
        images = code.at(x, code.times(start, prod(shape.x_shape[1:])))
        with code.loop(build.sub(end, begin)) as (channel, _):
            at = build.add(begin, channel)
            own = [build.gep(places, [at]), code.at(sums, at), code.at(total, code.times(at, weights // co))]
            build.call(fetch, [images, *own, count])
    build.ret_void()


def side_of(code: Function, cut: Cut, side: Any) -> tuple[Any, Any, Any]:
    """(first, last, rest) of a part's blocks of output channels; `rest` is 1 where what is left of them is its own."""
    low, high = (bound(code, side, step, cut.blocks[0][2], cut.by_channels) for step in (0, 1))
    is_last = code.build.icmp_signed("==", side, number(cut.by_channels - 1))
    return low, high, code.build.select(is_last, number(1), number(0))
