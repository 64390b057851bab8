"""What a group of images goes through before its tiles are summed: a border of zeros; for `pooled` box sums and means.

    S[u, v] = Σ_{a, b < r}  x[u + a·s − lo, v + b·s − lo]        m[P, Q] = Σ_{a, b < r}  dO[P·r + a, Q·r + b] / r²

Box sums are taken first down the rows, into a row of the workspace, and then along it: 2(r − 1) additions, not r² − 1.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from approxtrain_kernels.native.code import FLOAT, Function, number

if TYPE_CHECKING:
    from approxtrain_kernels.native.cut import Cut


def group(code: Function, cut: Cut, own: Any, x: Any, dy: Any, start: Any, count: Any) -> tuple[Any, Any]:
    """(x, dO) of `count` images from image `start` on, as the tiles read them: in `own` where they change.

    The workspace is zero before the first group, and its borders stay so.
    """
    shape = cut.shape
    images = code.at(x, code.times(start, prod(shape.x_shape[1:])))
    gradients = code.at(dy, code.times(start, prod(shape.y_shape[1:])))
    if not cut.copies:
        return images, gradients
    with code.loop(count) as (n, _):
        image = code.at(images, code.times(n, prod(shape.x_shape[1:])))
        place = code.at(own, code.times(n, cut.image))
        if cut.r == 1:
            _copy(code, cut, place, image)
        else:
            means = code.at(own, cut.images * cut.image)
            bordered = code.at(means, cut.images * cut.gradient)
            _copy(code, cut, bordered, image)
            _boxes(code, cut, place, bordered, code.at(bordered, prod(cut.padded) * shape.in_channels))
            gradient = code.at(gradients, code.times(n, prod(shape.y_shape[1:])))
            _means(code, cut, code.at(means, code.times(n, cut.gradient)), gradient)
    return own, gradients if cut.r == 1 else code.at(own, cut.images * cut.image)


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


def _boxes(code: Function, cut: Cut, to: Any, bordered: Any, line: Any) -> None:
    ci, width, (sh, sw) = cut.shape.in_channels, cut.padded[1], cut.shape.strides
    with code.loop(number(cut.bordered[0])) as (u, _):
        above = code.at(bordered, code.times(u, width * ci))
        _sum(code, line, [code.at(above, a * sh * width * ci) for a in range(cut.r)], width * ci)
        row = code.at(to, code.times(u, cut.bordered[1] * ci))
        _sum(code, row, [code.at(line, b * sw * ci) for b in range(cut.r)], cut.bordered[1] * ci)


def _means(code: Function, cut: Cut, to: Any, gradient: Any) -> None:
    (_, _, wo, co), r = cut.shape.y_shape, cut.r
    with code.loop(number(cut.outputs[0])) as (p, _), code.loop(number(cut.outputs[1])) as (q, _):
        block = code.at(gradient, code.times(p, r * wo * co), code.times(q, r * co))
        mean = code.at(to, code.times(p, cut.outputs[1] * co), code.times(q, co))
        _sum(code, mean, [code.at(block, (a * wo + b) * co) for a in range(r) for b in range(r)], co, 1 / r**2)


def _sum(code: Function, to: Any, terms: list[Any], size: int, factor: float = 1.0) -> None:
    """to[t] = factor · Σ terms[t] for t < size; the compiler makes vectors of it."""
    build = code.build
    with code.loop(number(size)) as (t, _):
        total = build.load(code.at(terms[0], t))
        for term in terms[1:]:
            total = build.fadd(total, build.load(code.at(term, t)))
        if factor != 1.0:
            total = build.fmul(total, FLOAT(factor))
        build.store(total, code.at(to, t))
