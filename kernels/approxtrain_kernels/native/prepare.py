"""What a group of images goes through before its tiles are summed: a border of zeros, box sums and means, a thinned dO.

    S[u, v] = Σ_{a, b < r}  x[u + a·s − lo, v + b·s − lo]        m[P, Q] = Σ_{a, b < r}  dO[P·r + a, Q·r + b] / r²

Box sums are taken first down the rows, into a row of the workspace, and then along it: 2(r − 1) additions, not r² − 1.
The image is read once and not copied: above and below it a box has fewer rows, and left and right of it the row of the
workspace is zero.
"""

from __future__ import annotations

from functools import reduce
from itertools import groupby
from math import prod
from typing import TYPE_CHECKING, Any

from llvmlite import ir

from approxtrain_kernels.native.code import INDEX, Function, number, vectors_of
from approxtrain_kernels.native.cut import pieces
from approxtrain_kernels.native.look import POSITIONS

if TYPE_CHECKING:
    from approxtrain_kernels.native.cut import Cut

TOGETHER, FEW_TERMS = 4, 16
"""Vectors of a sum that are added up in one turn of a loop, if they have few terms: else the code would be long."""
Looks = dict[int, ir.Function]
"""Output channels → `look`."""


def borders(code: Function, cut: Cut, own: Any) -> None:
    """Zero what lies around the images that `group` copies, or around the row from which it takes box sums."""
    if cut.r > 1:
        code.clear(code.at(own, cut.images * (cut.image + cut.gradient)), number(cut.line_sums))
    elif cut.copies:
        code.clear(own, number(cut.images * cut.image))


def group(code: Function, cut: Cut, looks: Looks, own: Any, x: Any, dy: Any, start: Any, count: Any) -> tuple[Any, Any]:
    """(x, dO) of `count` images from image `start` on, as the tiles read them: in `own` where they change.

    `borders` are zero before the first group, and stay so.
    """
    shape = cut.shape
    images = code.at(x, code.times(start, prod(shape.x_shape[1:])))
    gradients = code.at(dy, code.times(start, prod(shape.y_shape[1:])))
    new_dy = code.at(own, cut.images * cut.image if cut.copies else 0)
    beyond = code.at(new_dy, cut.images * cut.gradient)
    changes_dy = cut.r > 1 or cut.thin
    if cut.copies or changes_dy:
        with code.loop(count) as (n, _):
            image = code.at(images, code.times(n, prod(shape.x_shape[1:])))
            gradient = code.at(gradients, code.times(n, prod(shape.y_shape[1:])))
            to_x, to_dy = code.at(own, code.times(n, cut.image)), code.at(new_dy, code.times(n, cut.gradient))
            if cut.r > 1:
                _boxes(code, cut, to_x, image, beyond)
                _means(code, cut, to_dy, gradient)
            elif cut.copies:
                _copy(code, cut, to_x, image)
            if cut.thin:
                _thin(code, cut, looks, to_dy, gradient, beyond)
    return own if cut.copies else images, new_dy if changes_dy else gradients


def _thin(code: Function, cut: Cut, looks: Looks, to: Any, gradient: Any, entries: Any) -> None:
    """dO of an image with one entry for each channel: the sum of its plane, where the largest was."""
    build, co = code.build, cut.shape.out_channels
    places = build.bitcast(code.at(entries, co), POSITIONS)
    for first, columns, many in cut.blocks:
        with code.loop(number(many)) as (block, _):
            at = build.add(number(first), code.times(block, columns))
            build.call(looks[columns], [code.at(gradient, at), build.gep(places, [at]), code.at(entries, at)])
    code.clear(to, number(cut.gradient))
    with code.loop(number(co)) as (channel, _):
        pixel = build.zext(build.load(build.gep(places, [channel])), INDEX)
        build.store(build.load(code.at(entries, channel)), code.at(to, code.times(pixel, co), channel))


def _copy(code: Function, cut: Cut, to: Any, image: Any) -> None:
    """The part of an image that is read, to where it lies within its border."""
    shape, (height, width) = cut.shape, cut.padded
    ci, (top, left) = shape.in_channels, (lo for lo, _ in shape.padding)
    rows, columns = min(shape.height, height - top), min(shape.width, width - left)
    if min(rows, columns) <= 0:
        return  # every tap lies in the padding
    first = code.at(to, (top * width + left) * ci)
    with code.loop(number(rows)) as (row, _):
        source = code.at(image, code.times(row, shape.width * ci))
        code.copy(code.at(first, code.times(row, width * ci)), source, number(columns * ci))


def _boxes(code: Function, cut: Cut, to: Any, image: Any, line: Any) -> None:
    """The box sums of an image. `line`: a row of the workspace, zero where the border is."""
    shape, (sh, sw) = cut.shape, cut.shape.strides
    ci, (top, left), width = shape.in_channels, cut.corner, cut.bordered[1]
    columns = min(shape.width, cut.padded[1] - left)
    for first, many, terms in _runs(cut):
        if columns <= 0 or not terms:  # nothing but padding
            code.clear(code.at(to, first * width * ci), number(many * width * ci))
            continue
        with code.loop(number(many)) as (turn, _):
            u = code.build.add(number(first), turn)
            rows = [code.times(code.build.add(u, number(a * sh - top)), shape.width * ci) for a in terms]
            _sum(code, cut, code.at(line, left * ci), [code.at(image, row) for row in rows], columns * ci)
            row = code.at(to, code.times(u, width * ci))
            _sum(code, cut, row, [code.at(line, b * sw * ci) for b in range(cut.r)], width * ci)


def _runs(cut: Cut) -> list[tuple[int, int, tuple[int, ...]]]:
    """(first, how many, which a) of neighbouring rows of box sums whose boxes hold the same of their rows a."""
    top, step = cut.corner[0], cut.shape.strides[0]

    def held(u: int) -> tuple[int, ...]:
        return tuple(a for a in range(cut.r) if 0 <= u + a * step - top < cut.shape.height)

    runs = [(terms, list(rows)) for terms, rows in groupby(range(cut.bordered[0]), held)]
    return [(rows[0], len(rows), terms) for terms, rows in runs]


def _means(code: Function, cut: Cut, to: Any, gradient: Any) -> None:
    (_, _, wo, co), r = cut.shape.y_shape, cut.r
    with code.loop(number(cut.outputs[0])) as (p, _), code.loop(number(cut.outputs[1])) as (q, _):
        block = code.at(gradient, code.times(p, r * wo * co), code.times(q, r * co))
        mean = code.at(to, code.times(p, cut.outputs[1] * co), code.times(q, co))
        _sum(code, cut, mean, [code.at(block, (a * wo + b) * co) for a in range(r) for b in range(r)], co, 1 / r**2)


def _sum(code: Function, cut: Cut, to: Any, terms: list[Any], size: int, factor: float = 1.0) -> None:
    """to[t] = factor · Σ terms[t] for t < size."""
    build, together = code.build, TOGETHER if len(terms) <= FEW_TERMS else 1
    for first, piece, many in pieces(size, together * cut.lanes):
        with code.loop(number(many)) as (turn, _):
            at = build.add(number(first), code.times(turn, piece))
            for offset, kind in vectors_of(piece, cut.lanes):
                read = [build.load(code.vector(code.at(term, at), offset, kind), align=4) for term in terms]
                total = reduce(build.fadd, read)
                if factor != 1.0:
                    total = build.fmul(total, ir.Constant(kind, [factor] * kind.count))
                build.store(total, code.vector(code.at(to, at), offset, kind), align=4)
