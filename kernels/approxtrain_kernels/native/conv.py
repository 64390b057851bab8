"""The code of a forward or of an input gradient on a CPU, for one shape and one width of vector registers.

    y[n, p, q, co]  = Σ_{i, j, ci}  x[n, p·s + i − lo, q·s + j − lo, ci] · w[i, j, ci, co]
    dx[n, h, w, ci] = Σ_{i, j, co}  dy[n, (h + lo − i) / s, (w + lo − j) / s, co] · w[i, j, ci, co]   where s divides

A tile of the target, some pixels times some channels, stays in registers while the sum runs over taps and source
channels: each turn loads the weights of the channels, spreads one number of each pixel, and multiplies and adds each
pair. Neighbouring taps of a row lie side by side in the source, which has its border of zeros around it: the images of
a group are first copied to where there is one. The weights are first packed in the order in which they are read.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any, NamedTuple

from llvmlite import ir

from approxtrain_kernels.geometry import Pair, pieces
from approxtrain_kernels.native.builder import FLOATS, INDEX, Function, Share, number, vectors_of
from approxtrain_kernels.native.conv_tiling import Axis, Box, ConvTiling, Panel
from approxtrain_kernels.native.kernel import Size


class Conv(ConvTiling):
    """y `[N, Ho, Wo, Co]` from x `[N, H, W, Ci]` and w `[Kh, Kw, Ci, Co]`; with `backward`, dx from dy and w."""

    sums_over_batch = False

    @property
    def name(self) -> str:
        return "dgrad" if self.backward else "forward"

    @property
    def operands(self) -> dict[str, Size]:
        source = {"dy": self.shape.y_shape} if self.backward else {"x": self.shape.x_shape}
        return {**source, "w": self.shape.w_shape}

    @property
    def result(self) -> Size:
        return self.shape.x_shape if self.backward else self.shape.y_shape

    def module(self) -> ir.Module:
        module = ir.Module("conv")
        _slice(module, self)
        Function(module, "combine", [FLOATS, FLOATS]).build.ret_void()  # each slice has its own share of the target
        return module


def _tile(module: ir.Module, tiling: ConvTiling, box: Box, channels: int, adds: bool) -> ir.Function:
    """tile(source, w, target, rows, line): the target's box = (or with `adds` +=) the sum over so many rows of taps.

    `line`: the numbers of a row of taps, which follow each other in source and w alike.
    """
    name = f"tile{box.images}x{box.rows}x{box.columns}x{channels}{'adds' if adds else ''}"
    if name in module.globals:
        return module.globals[name]
    code = Function(module, name, [*[FLOATS] * 3, *[INDEX] * 2], inline=False, apart=True)
    build, (source, w, target, rows, line) = code.build, code.arguments
    vectors = vectors_of(channels, tiling.lanes)
    (height, width), (ht, wt, ct) = tiling.plane, tiling.target
    pixels = [(n, p, q) for n in range(box.images) for p in range(box.rows) for q in range(box.columns)]
    reads = [((n * height + p * tiling.step[0]) * width + q * tiling.step[1]) * tiling.source[2] for n, p, q in pixels]
    writes = [((n * ht + p * tiling.spread[0]) * wt + q * tiling.spread[1]) * ct for n, p, q in pixels]
    totals = [ir.Constant(kind, [0.0] * kind.count) for _ in pixels for _, kind in vectors]  # [pixels, vectors]
    with code.loop(rows, totals) as (i, by_row):
        first_pixel = code.at(source, code.times(i, width * tiling.source[2]))
        taps = code.at(w, build.mul(build.mul(i, line), number(channels)))
        with code.loop(line, by_row) as (c, sums):
            here, weights = code.at(first_pixel, c), code.at(taps, code.times(c, channels))
            right = [build.load(code.vector(weights, *vector), align=4) for vector in vectors]
            index = 0
            for offset in reads:
                left = build.load(code.at(here, offset))
                for value in right:
                    sums[index] = code.multiply_add(left, value, sums[index])
                    index += 1
        by_row[:] = sums
    index = 0
    for offset in writes:
        for first, kind in vectors:
            where, total = code.vector(code.at(target, offset), first, kind), by_row[index]
            build.store(build.fadd(build.load(where, align=4), total) if adds else total, where, align=4)
            index += 1
    build.ret_void()
    return code.function


def _slice(module: ir.Module, tiling: ConvTiling) -> None:
    """A share of the images and of the target's channels, group by group."""
    code = Function(module, "slice", [INDEX, *[FLOATS] * 4])
    slice_number, source, w, target, workspace = code.arguments
    batch, whole_blocks = tiling.shape.batch, tiling.blocks[0][2]
    share = Share(code, slice_number, batch, whole_blocks, tiling.image_shares, tiling.channel_shares)
    scratch = code.at(workspace, code.times(slice_number, tiling.scratch))
    images = code.at(scratch, tiling.packed)
    if tiling.packs:
        _pack(code, tiling, scratch, w, share)
        w = scratch
    if tiling.copies:
        code.clear(images, number(tiling.group * tiling.image))
    with share.groups(tiling.group) as (start, count):
        read = code.at(source, code.times(start, prod(tiling.source)))
        if tiling.copies:
            _copy(code, tiling, images, read, count)
            read = images
        _group(code, tiling, Group(read, w, code.at(target, code.times(start, prod(tiling.target))), count), share)
    code.build.ret_void()


class Group(NamedTuple):
    """A group of images: pointers to what the tiles read and write, and how many images it has."""

    source: Any
    w: Any
    target: Any
    images: Any


def _pack(code: Function, tiling: ConvTiling, to: Any, w: Any, share: Share) -> None:
    """w `[Kh, Kw, Ci, Co]` → `[phase, tap, source channel, channel]` for each block of the target's channels."""
    build, shape = code.build, tiling.shape
    begin, size = code.times(share.low, tiling.columns), tiling.weights // tiling.target[2]
    tap_size, next_channel = shape.in_channels * shape.out_channels, shape.out_channels if tiling.backward else 1
    taps = [(i, j) for rows, columns in tiling.phases for i in rows.taps for j in columns.taps]
    for columns, channel in share.blocks(tiling.target[2], tiling.columns):
        pack = (_pack_transposed if tiling.backward else _pack_columns)(code.module, tiling, columns)
        block_to = code.at(to, code.times(build.sub(channel, begin), size))
        read = code.at(w, code.times(channel, next_channel))
        for index, (i, j) in enumerate(taps):
            tap = code.at(read, (i * shape.kernel_size[1] + j) * tap_size)
            build.call(pack, [code.at(block_to, index * tiling.source[2] * columns), tap])


def _pack_columns(module: ir.Module, tiling: ConvTiling, columns: int) -> ir.Function:
    """pack_columns(to, w): to `[Ci, columns]` from `columns` neighbours of each row of w `[Ci, Co]`."""
    code = Function(module, f"pack_columns{columns}", [FLOATS, FLOATS], inline=False)
    to, w = code.arguments
    with code.loop(number(tiling.source[2])) as (c, _):
        read, write = code.at(w, code.times(c, tiling.target[2])), code.at(to, code.times(c, columns))
        for vector in vectors_of(columns, tiling.lanes):
            code.build.store(code.build.load(code.vector(read, *vector), align=4), code.vector(write, *vector), align=4)
    code.build.ret_void()
    return code.function


def _pack_transposed(module: ir.Module, tiling: ConvTiling, columns: int) -> ir.Function:
    """pack_transposed(to, w): to `[Co, columns]` from `columns` rows of w `[Ci, Co]`."""
    code = Function(module, f"pack_transposed{columns}", [FLOATS, FLOATS], inline=False, apart=True)
    (to, w), length = code.arguments, tiling.source[2]
    with code.loop(number(length)) as (c, _), code.loop(number(columns)) as (v, _):
        value = code.build.load(code.at(w, code.times(v, length), c))
        code.build.store(value, code.at(to, code.times(c, columns), v))
    code.build.ret_void()
    return code.function


def _copy(code: Function, tiling: ConvTiling, to: Any, images: Any, count: Any) -> None:
    """Copy `count` images `[H, W, C]` to where each has its border of zeros, `[*plane, C]`."""
    (top, _), (left, _) = tiling.border
    height, width, channels = tiling.source
    with code.loop(count) as (n, _), code.loop(number(height)) as (row, _):
        line = code.at(images, code.times(n, prod(tiling.source)), code.times(row, width * channels))
        first = code.at(to, code.times(n, tiling.image), (top * tiling.plane[1] + left) * channels)
        code.copy(code.at(first, code.times(row, tiling.plane[1] * channels)), line, number(width * channels))


def _group(code: Function, tiling: ConvTiling, group: Group, share: Share) -> None:
    """All tiles of a group: by blocks of channels, by phases, by rows of taps that are taken at once."""
    build, begin = code.build, code.times(share.low, tiling.columns)
    for size, channel in share.blocks(tiling.target[2], tiling.columns):
        w = group.w
        if tiling.packs:
            w = code.at(w, code.times(build.sub(channel, begin), tiling.weights // tiling.target[2]))
        target, done = code.at(group.target, channel), 0  # done: numbers of w of the phases before, for a channel
        for phase in tiling.phases:
            line = len(phase[1].taps) * tiling.source[2]
            for panel in tiling.panels(size, phase):
                weights = code.at(w, (done + panel.row * line + panel.first) * size)
                _panel(code, tiling, group._replace(w=weights, target=target), phase, panel, size)
            done += len(phase[0].taps) * line


def _panel(
    code: Function, tiling: ConvTiling, group: Group, phase: tuple[Axis, Axis], panel: Panel, channels: int
) -> None:
    """The tiles of one panel, over all its pixels of the group."""
    (down, height), (across, breadth) = panel.down, panel.across
    if height * breadth == 0:
        return
    (rows, columns), (sh, sw), (dh, dw) = phase, tiling.step, tiling.spread
    (top, _), (left, _) = tiling.border if tiling.copies else ((0, 0), (0, 0))
    row, column = top + rows.first + panel.row + down * sh, left + columns.first + across * sw
    pixel = (rows.start + down * dh) * tiling.target[1] + columns.start + across * dw
    read = (row * tiling.plane[1] + column) * tiling.source[2] + panel.first if panel.rows else 0
    source, target = code.at(group.source, read), code.at(group.target, pixel * tiling.target[2])
    boxes = _boxes(code.module, tiling, (height, breadth), channels, not panel.fresh)
    code.build.call(boxes, [source, group.w, target, group.images, number(panel.rows), number(panel.line)])


def _boxes(module: ir.Module, tiling: ConvTiling, pixels: Pair, channels: int, adds: bool) -> ir.Function:
    """boxes(source, w, target, images, rows, line): `tile` over so many images of rows × columns of pixels."""
    name = f"boxes{pixels[0]}x{pixels[1]}x{channels}{'adds' if adds else ''}"
    if name in module.globals:
        return module.globals[name]
    box, (sh, sw), (dh, dw) = tiling.box(channels, *pixels), tiling.step, tiling.spread
    line, width = tiling.plane[1] * tiling.source[2], tiling.target[1] * tiling.target[2]
    code = Function(module, name, [*[FLOATS] * 3, *[INDEX] * 3], inline=False)
    build, (source, w, target, images, *taps) = code.build, code.arguments
    whole = build.sdiv(images, number(box.images))
    kinds = [(number(0), whole, box.images)]
    if box.images > 1:
        kinds.append((code.times(whole, box.images), build.srem(images, number(box.images)), 1))
    for begin, count, together in kinds:
        with code.loop(count) as (turn, _):
            n = build.add(begin, code.times(turn, together))
            read = code.at(source, code.times(n, tiling.image))
            write = code.at(target, code.times(n, prod(tiling.target)))
            boxes = product(pieces(pixels[0], box.rows), pieces(pixels[1], box.columns))
            for (p, height, many), (q, breadth, times) in boxes:
                tile = _tile(module, tiling, Box(together, height, breadth), channels, adds)
                with code.loop(number(many)) as (i, _), code.loop(number(times)) as (j, _):
                    i, j = build.add(number(p), code.times(i, height)), build.add(number(q), code.times(j, breadth))
                    here = code.at(read, code.times(i, sh * line), code.times(j, sw * tiling.source[2]))
                    there = code.at(write, code.times(i, dh * width), code.times(j, dw * tiling.target[2]))
                    build.call(tile, [here, w, there, *taps])
    build.ret_void()
    return code.function
