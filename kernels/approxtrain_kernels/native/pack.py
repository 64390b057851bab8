"""Packing a group of images before its tiles are summed: a border of zeros, box sums and means, one entry a plane.

    S[u, v] = Σ_{a, b < r}  x[u + a·s − lo, v + b·s − lo]        m[P, Q] = Σ_{a, b < r}  dO[P·r + a, Q·r + b] / r²

Box sums are taken first down the rows, into a row of the workspace, and then along it: 2(r − 1) additions, not r² − 1.
The image is read once and not copied: above and below it a box has fewer rows, and left and right of it the row of the
workspace is zero.
"""

from __future__ import annotations

from functools import reduce
from itertools import groupby
from math import prod
from typing import Any

from llvmlite import ir

from approxtrain_kernels.geometry import pieces
from approxtrain_kernels.native.argmax_and_sum import POSITIONS, argmax_and_sum
from approxtrain_kernels.native.builder import INDEX, Function, number, vectors_of
from approxtrain_kernels.native.wgrad_tiling import WgradTiling

TOGETHER, FEW_TERMS = 4, 16
"""Vectors of a sum that are added up in one turn of a loop, if they have few terms: else the code would be long."""


def borders(code: Function, tiling: WgradTiling, scratch: Any) -> None:
    """Zero what lies around the images that `group` copies, or around the row from which it takes box sums."""
    if tiling.r > 1:
        beyond = tiling.group * (tiling.image + tiling.gradient)
        code.clear(code.at(scratch, beyond), number(tiling.line_sums))
    elif tiling.copies:
        code.clear(scratch, number(tiling.group * tiling.image))


def group(
    code: Function, tiling: WgradTiling, scratch: Any, x: Any, dy: Any, start: Any, count: Any
) -> tuple[Any, Any]:
    """(x, dO) of `count` images from image `start` on, as the tiles read them: in `scratch` where they change.

    The scratch is x `[group, *plane, Ci]`, then dO `[group, *outputs, Co]`, then a row of sums `[padded width, Ci]` or
    the entries `[2, Co]`. What `borders` cleared is zero before the first group, and stays so.
    """
    shape = tiling.shape
    images = code.at(x, code.times(start, prod(shape.x_shape[1:])))
    gradients = code.at(dy, code.times(start, prod(shape.y_shape[1:])))
    new_dy = code.at(scratch, tiling.group * tiling.image if tiling.copies else 0)
    beyond = code.at(new_dy, tiling.group * tiling.gradient)
    if tiling.copies or tiling.changes_dy:
        with code.loop(count) as (n, _):
            image = code.at(images, code.times(n, prod(shape.x_shape[1:])))
            gradient = code.at(gradients, code.times(n, prod(shape.y_shape[1:])))
            to_x, to_dy = code.at(scratch, code.times(n, tiling.image)), code.at(new_dy, code.times(n, tiling.gradient))
            if tiling.r > 1:
                _box_sums(code, tiling, to_x, image, beyond)
                _means(code, tiling, to_dy, gradient)
            elif tiling.copies:
                _copy(code, tiling, to_x, image)
            if tiling.scatter_top1:
                _scatter_top1(code, tiling, to_dy, gradient, beyond)
    return scratch if tiling.copies else images, new_dy if tiling.changes_dy else gradients


def _scatter_top1(code: Function, tiling: WgradTiling, to: Any, gradient: Any, entries: Any) -> None:
    """dO of an image with one entry for each channel: the sum of its plane, where the largest was.

    `entries`: sums `[Co]`, then positions `[Co]`.
    """
    build, co = code.build, tiling.shape.out_channels
    positions = build.bitcast(code.at(entries, co), POSITIONS)
    for first, columns, many in tiling.blocks:
        with code.loop(number(many)) as (block, _):
            channel = build.add(number(first), code.times(block, columns))
            pointers = [build.gep(positions, [channel]), code.at(entries, channel)]
            build.call(argmax_and_sum(code.module, tiling, columns), [code.at(gradient, channel), *pointers])
    code.clear(to, number(tiling.gradient))
    with code.loop(number(co)) as (channel, _):
        pixel = build.zext(build.load(build.gep(positions, [channel])), INDEX)
        build.store(build.load(code.at(entries, channel)), code.at(to, code.times(pixel, co), channel))


def _copy(code: Function, tiling: WgradTiling, to: Any, image: Any) -> None:
    """Copy what is read of an image `[H, W, Ci]` to its place within the border, `[*padded, Ci]`."""
    shape, (height, width) = tiling.shape, tiling.padded
    ci, (top, left) = shape.in_channels, (lo for lo, _ in shape.padding)
    rows, columns = min(shape.height, height - top), min(shape.width, width - left)
    if min(rows, columns) <= 0:
        return  # every tap lies in the padding
    first = code.at(to, (top * width + left) * ci)
    with code.loop(number(rows)) as (row, _):
        source = code.at(image, code.times(row, shape.width * ci))
        code.copy(code.at(first, code.times(row, width * ci)), source, number(columns * ci))


def _box_sums(code: Function, tiling: WgradTiling, to: Any, image: Any, line: Any) -> None:
    """Box sums `[*bordered, Ci]` of an image `[H, W, Ci]`. `line`: `[padded width, Ci]`, zero where the border is."""
    shape, (sh, sw) = tiling.shape, tiling.shape.strides
    ci, (top, left), width = shape.in_channels, tiling.corner, tiling.bordered[1]
    columns = min(shape.width, tiling.padded[1] - left)
    for first, many, terms in _runs(tiling):
        if columns <= 0 or not terms:  # nothing but padding
            code.clear(code.at(to, first * width * ci), number(many * width * ci))
            continue
        with code.loop(number(many)) as (turn, _):
            u = code.build.add(number(first), turn)
            rows = [code.times(code.build.add(u, number(a * sh - top)), shape.width * ci) for a in terms]
            _sum(code, tiling, code.at(line, left * ci), [code.at(image, row) for row in rows], columns * ci)
            row = code.at(to, code.times(u, width * ci))
            _sum(code, tiling, row, [code.at(line, b * sw * ci) for b in range(tiling.r)], width * ci)


def _runs(tiling: WgradTiling) -> list[tuple[int, int, tuple[int, ...]]]:
    """(first, how many, terms) of neighbouring rows of box sums that lack the same rows of their boxes.

    `terms` are those of a box's rows 0 … r − 1 that lie within the image.
    """
    top, step = tiling.corner[0], tiling.shape.strides[0]

    def rows_within(u: int) -> tuple[int, ...]:
        return tuple(a for a in range(tiling.r) if 0 <= u + a * step - top < tiling.shape.height)

    runs = [(terms, list(rows)) for terms, rows in groupby(range(tiling.bordered[0]), rows_within)]
    return [(rows[0], len(rows), terms) for terms, rows in runs]


def _means(code: Function, tiling: WgradTiling, to: Any, gradient: Any) -> None:
    """Means `[Ho / r, Wo / r, Co]` of the blocks of an image of dO `[Ho, Wo, Co]`."""
    (_, _, wo, co), r = tiling.shape.y_shape, tiling.r
    with code.loop(number(tiling.outputs[0])) as (p, _), code.loop(number(tiling.outputs[1])) as (q, _):
        block = code.at(gradient, code.times(p, r * wo * co), code.times(q, r * co))
        mean = code.at(to, code.times(p, tiling.outputs[1] * co), code.times(q, co))
        _sum(code, tiling, mean, [code.at(block, (a * wo + b) * co) for a in range(r) for b in range(r)], co, 1 / r**2)


def _sum(code: Function, tiling: WgradTiling, to: Any, terms: list[Any], size: int, factor: float = 1.0) -> None:
    """to[t] = factor · Σ terms[t] for t < size."""
    build, together = code.build, TOGETHER if len(terms) <= FEW_TERMS else 1
    for first, piece, many in pieces(size, together * tiling.lanes):
        with code.loop(number(many)) as (turn, _):
            at = build.add(number(first), code.times(turn, piece))
            for offset, kind in vectors_of(piece, tiling.lanes):
                read = [build.load(code.vector(code.at(term, at), offset, kind), align=4) for term in terms]
                total = reduce(build.fadd, read)
                if factor != 1.0:
                    total = build.fmul(total, ir.Constant(kind, [factor] * kind.count))
                build.store(total, code.vector(code.at(to, at), offset, kind), align=4)
