"""The code of a forward or of an input gradient on a CPU, for one shape and one width of vector registers.

    y[n, p, q, co]  = Σ_{i, j, ci}  x[n, p·s + i − lo, q·s + j − lo, ci] · w[i, j, ci, co]
    dx[n, h, w, ci] = Σ_{i, j, co}  dy[n, (h + lo − i) / s, (w + lo − j) / s, co] · w[i, j, ci, co]   where s divides

A tile of the target, some pixels times some channels, stays in registers while the sum runs over taps and source
channels: each turn loads the weights of the channels, spreads one number of each pixel, and multiplies and adds each
pair. Neighbouring taps of a row lie side by side in the source, which has its border of zeros around it: the images of
a group are first copied to where there is one. The weights are first brought into the order in which they are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Any, NamedTuple

from llvmlite import ir

from approxtrain_kernels.geometry import Pair
from approxtrain_kernels.native.code import FLOATS, INDEX, Function, number, vectors_of
from approxtrain_kernels.native.cut import pieces
from approxtrain_kernels.native.generate import bound
from approxtrain_kernels.native.sweep import Axis, Box, Panel, Sweep


def module(sweep: Sweep) -> ir.Module:
    """`part(number, source, w, target, workspace)` and `combine(target, workspace)`, which `entry.ll` calls."""
    found = ir.Module("convolve")
    _part(found, sweep)
    Function(found, "combine", [FLOATS, FLOATS]).build.ret_void()  # each part has a share of the target of its own
    return found


def _tile(module: ir.Module, sweep: Sweep, box: Box, channels: int, adds: bool) -> ir.Function:
    """tile(source, w, target, rows, line): the target's box = (or with `adds` +=) the sum over so many rows of taps.

    `line`: the numbers of a row of taps, which follow each other in source and w alike.
    """
    name = f"tile{box.images}x{box.rows}x{box.columns}x{channels}{'adds' if adds else ''}"
    if name in module.globals:
        return module.globals[name]
    code = Function(module, name, [*[FLOATS] * 3, *[INDEX] * 2], inline=False)
    build, (source, w, target, rows, line) = code.build, code.arguments
    for pointer in (source, w, target):
        pointer.add_attribute("noalias")
    vectors = vectors_of(channels, sweep.lanes)
    (height, width), (ht, wt, ct) = sweep.plane, sweep.target
    places = [(n, p, q) for n in range(box.images) for p in range(box.rows) for q in range(box.columns)]
    reads = [((n * height + p * sweep.step[0]) * width + q * sweep.step[1]) * sweep.source[2] for n, p, q in places]
    writes = [((n * ht + p * sweep.spread[0]) * wt + q * sweep.spread[1]) * ct for n, p, q in places]
    totals = [ir.Constant(kind, [0.0] * kind.count) for _ in places for _, kind in vectors]
    with code.loop(rows, totals) as (i, by_row):
        pixels, taps = (
            code.at(source, code.times(i, width * sweep.source[2])),
            code.at(w, build.mul(build.mul(i, line), number(channels))),
        )
        with code.loop(line, by_row) as (c, sums):
            here, weights = code.at(pixels, c), code.at(taps, code.times(c, channels))
            right = [build.load(code.vector(weights, *one), align=4) for one in vectors]
            at = 0
            for offset in reads:
                left = build.load(code.at(here, offset))
                for value in right:
                    sums[at] = code.multiply_add(left, value, sums[at])
                    at += 1
        by_row[:] = sums
    at = 0
    for offset in writes:
        for first, kind in vectors:
            where, total = code.vector(code.at(target, offset), first, kind), by_row[at]
            build.store(build.fadd(build.load(where, align=4), total) if adds else total, where, align=4)
            at += 1
    build.ret_void()
    return code.function


def _part(module: ir.Module, sweep: Sweep) -> None:
    """A share of the images and of the target's channels, group by group."""
    code = Function(module, "part", [INDEX, *[FLOATS] * 4])
    build, (part, source, w, target, workspace) = code.build, code.arguments
    share, side = build.sdiv(part, number(sweep.by_channels)), build.srem(part, number(sweep.by_channels))
    first, last = (bound(code, share, step, sweep.shape.batch, sweep.by_images) for step in (0, 1))
    low, high = (bound(code, side, step, sweep.blocks[0][2], sweep.by_channels) for step in (0, 1))
    is_last = build.icmp_signed("==", side, number(sweep.by_channels - 1))
    own = code.at(workspace, code.times(part, sweep.own))
    images = code.at(own, sweep.arranged)
    channels = Channels(low, high, build.select(is_last, number(1), number(0)))
    if sweep.arranges:
        _arrange(code, sweep, own, w, channels)
        w = own
    if sweep.copies:
        code.clear(images, number(sweep.images * sweep.image))
    groups = build.sdiv(build.add(build.sub(last, first), number(sweep.images - 1)), number(sweep.images))
    with code.loop(groups) as (group, _):
        start = build.add(first, code.times(group, sweep.images))
        count = code.smaller(build.sub(last, start), number(sweep.images))
        read = code.at(source, code.times(start, prod(sweep.source)))
        if sweep.copies:
            _copy(code, sweep, images, read, count)
            read = images
        _sweep(code, sweep, Group(read, w, code.at(target, code.times(start, prod(sweep.target))), count), channels)
    build.ret_void()


class Channels(NamedTuple):
    """The blocks of the target's channels that are a part's: [low, high), and `rest` (1 or 0) of what is left."""

    low: Any
    high: Any
    rest: Any


class Group(NamedTuple):
    source: Any
    w: Any
    target: Any
    images: Any


def _blocks(code: Function, sweep: Sweep, channels: Channels) -> Iterator[tuple[int, int, Any, Any]]:
    """(first channel, channels, first block, how many) of each kind of block that a part has."""
    for first, size, _ in sweep.blocks:
        whole = size == sweep.columns
        many = code.build.sub(channels.high, channels.low)
        yield (first, size, channels.low, many) if whole else (first, size, number(0), channels.rest)


def _arrange(code: Function, sweep: Sweep, to: Any, w: Any, channels: Channels) -> None:
    """w `[Kh, Kw, Ci, Co]` → for each block of the target's channels `[phase, tap, source channel, channel]`."""
    build, shape = code.build, sweep.shape
    begin, size = code.times(channels.low, sweep.columns), sweep.weights // sweep.target[2]
    tap_size, next_channel = shape.in_channels * shape.out_channels, shape.out_channels if sweep.backward else 1
    taps = [(i, j) for rows, columns in sweep.phases for i in rows.taps for j in columns.taps]
    for first, columns, low, count in _blocks(code, sweep, channels):
        arrange = (_turned if sweep.backward else _beside)(code.module, sweep, columns)
        with code.loop(count) as (block, _):
            channel = build.add(number(first), code.times(build.add(low, block), columns))
            block_to = code.at(to, code.times(build.sub(channel, begin), size))
            read = code.at(w, code.times(channel, next_channel))
            for place, (i, j) in enumerate(taps):
                tap = code.at(read, (i * shape.kernel_size[1] + j) * tap_size)
                build.call(arrange, [code.at(block_to, place * sweep.source[2] * columns), tap])


def _beside(module: ir.Module, sweep: Sweep, columns: int) -> ir.Function:
    """beside(to, w): to `[Ci, columns]` from so many neighbours of each row of w `[Ci, Co]`."""
    code = Function(module, f"beside{columns}", [FLOATS, FLOATS], inline=False)
    to, w = code.arguments
    with code.loop(number(sweep.source[2])) as (c, _):
        read, write = code.at(w, code.times(c, sweep.target[2])), code.at(to, code.times(c, columns))
        for one in vectors_of(columns, sweep.lanes):
            code.build.store(code.build.load(code.vector(read, *one), align=4), code.vector(write, *one), align=4)
    code.build.ret_void()
    return code.function


def _turned(module: ir.Module, sweep: Sweep, columns: int) -> ir.Function:
    """turned(to, w): to `[Co, columns]` from so many rows of w `[Ci, Co]`."""
    code = Function(module, f"turned{columns}", [FLOATS, FLOATS], inline=False)
    (to, w), length = code.arguments, sweep.source[2]
    for pointer in (to, w):
        pointer.add_attribute("noalias")
    with code.loop(number(length)) as (c, _), code.loop(number(columns)) as (v, _):
        value = code.build.load(code.at(w, code.times(v, length), c))
        code.build.store(value, code.at(to, code.times(c, columns), v))
    code.build.ret_void()
    return code.function


def _copy(code: Function, sweep: Sweep, to: Any, images: Any, count: Any) -> None:
    """So many images to where each has its border, which is zero."""
    (top, _), (left, _) = sweep.border
    height, width, channels = sweep.source
    with code.loop(count) as (n, _), code.loop(number(height)) as (row, _):
        line = code.at(images, code.times(n, prod(sweep.source)), code.times(row, width * channels))
        first = code.at(to, code.times(n, sweep.image), (top * sweep.plane[1] + left) * channels)
        code.copy(code.at(first, code.times(row, sweep.plane[1] * channels)), line, number(width * channels))


def _sweep(code: Function, sweep: Sweep, group: Group, channels: Channels) -> None:
    """All tiles of a group: by blocks of channels, by phases, by rows of taps that are taken at once."""
    build, begin = code.build, code.times(channels.low, sweep.columns)
    for first, size, low, count in _blocks(code, sweep, channels):
        with code.loop(count) as (block, _):
            channel = build.add(number(first), code.times(build.add(low, block), size))
            w = group.w
            if sweep.arranges:
                w = code.at(w, code.times(build.sub(channel, begin), sweep.weights // sweep.target[2]))
            target, done = code.at(group.target, channel), 0
            for phase in sweep.phases:
                line = len(phase[1].taps) * sweep.source[2]
                for panel in sweep.panels(size, phase):
                    own = code.at(w, (done + panel.row * line + panel.first) * size)
                    _panel(code, sweep, group._replace(w=own, target=target), phase, panel, size)
                done += len(phase[0].taps) * line


def _panel(code: Function, sweep: Sweep, group: Group, phase: tuple[Axis, Axis], panel: Panel, channels: int) -> None:
    """The tiles of one panel, over all its pixels of the group."""
    (down, height), (across, breadth) = panel.down, panel.across
    if height * breadth == 0:
        return
    (rows, columns), (sh, sw), (dh, dw) = phase, sweep.step, sweep.spread
    (top, _), (left, _) = sweep.border if sweep.copies else ((0, 0), (0, 0))
    row, column = top + rows.first + panel.row + down * sh, left + columns.first + across * sw
    pixel = (rows.start + down * dh) * sweep.target[1] + columns.start + across * dw
    read = (row * sweep.plane[1] + column) * sweep.source[2] + panel.first if panel.rows else 0
    source, target = code.at(group.source, read), code.at(group.target, pixel * sweep.target[2])
    boxes = _boxes(code.module, sweep, (height, breadth), channels, not panel.fresh)
    code.build.call(boxes, [source, group.w, target, group.images, number(panel.rows), number(panel.line)])


def _boxes(module: ir.Module, sweep: Sweep, pixels: Pair, channels: int, adds: bool) -> ir.Function:
    """boxes(source, w, target, images, rows, line): `tile` over so many images of rows × columns of pixels."""
    name = f"boxes{pixels[0]}x{pixels[1]}x{channels}{'adds' if adds else ''}"
    if name in module.globals:
        return module.globals[name]
    box, (sh, sw), (dh, dw) = sweep.box(channels, *pixels), sweep.step, sweep.spread
    line, width = sweep.plane[1] * sweep.source[2], sweep.target[1] * sweep.target[2]
    code = Function(module, name, [*[FLOATS] * 3, *[INDEX] * 3], inline=False)
    build, (source, w, target, images, *taps) = code.build, code.arguments
    whole = build.sdiv(images, number(box.images))
    kinds = [(number(0), whole, box.images)]
    if box.images > 1:
        kinds.append((code.times(whole, box.images), build.srem(images, number(box.images)), 1))
    for begin, count, together in kinds:
        with code.loop(count) as (turn, _):
            n = build.add(begin, code.times(turn, together))
            read, write = (
                code.at(source, code.times(n, sweep.image)),
                code.at(target, code.times(n, prod(sweep.target))),
            )
            kinds_of = product(pieces(pixels[0], box.rows), pieces(pixels[1], box.columns))
            for (p, height, many), (q, breadth, times) in kinds_of:
                tile = _tile(module, sweep, Box(together, height, breadth), channels, adds)
                with code.loop(number(many)) as (i, _), code.loop(number(times)) as (j, _):
                    i, j = build.add(number(p), code.times(i, height)), build.add(number(q), code.times(j, breadth))
                    here = code.at(read, code.times(i, sh * line), code.times(j, sw * sweep.source[2]))
                    there = code.at(write, code.times(i, dh * width), code.times(j, dw * sweep.target[2]))
                    build.call(tile, [here, w, there, *taps])
    build.ret_void()
    return code.function
