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

from approxtrain_kernels.geometry import pieces
from approxtrain_kernels.native.argmax_and_sum import POSITIONS, argmax_and_sum
from approxtrain_kernels.native.builder import FLOAT, FLOATS, INDEX, Function, Share, number
from approxtrain_kernels.native.kernel import Size
from approxtrain_kernels.native.wgrad import combine, own_sums
from approxtrain_kernels.native.wgrad_tiling import WgradTiling


class TopkWgrad(WgradTiling):
    """dw `[Co, Kh, Kw, Ci]` from x `[N, H, W, Ci]` and the largest entries of dy `[N, Ho, Wo, Co]`.

    Shares and blocks are those of the exact weight gradient; its tiles are not used.
    """

    @property
    def name(self) -> str:
        return "topk_wgrad"

    @property
    def result(self) -> Size:
        kh, kw, ci, co = self.shape.w_shape
        return co, kh, kw, ci

    @property
    def scratch(self) -> int:
        """Numbers that each slice has of its own: sums `[group, Co]` and positions `[group, Co]`."""
        return 2 * self.group * self.shape.out_channels

    def module(self) -> ir.Module:
        module = ir.Module("topk_wgrad")
        _slice(module, self, _add_patches(module, self))
        combine(module, self)
        return module


def _add_patches(module: ir.Module, tiling: WgradTiling) -> ir.Function:
    """add_patches(x, position, total, dw, images): one channel's dw `[Kh, Kw, Ci]` += the patches of its entries."""
    shape = tiling.shape
    ci, co, wo = shape.in_channels, shape.out_channels, shape.y_shape[2]
    code = Function(module, "add_patches", [FLOATS, POSITIONS, FLOATS, FLOATS, INDEX])
    build, (x, position, total, dw, images) = code.build, code.arguments
    with code.loop(images) as (n, _):
        image = code.at(x, code.times(n, prod(shape.x_shape[1:])))
        pixel = build.zext(build.load(build.gep(position, [code.times(n, co)])), INDEX)
        value = build.load(code.at(total, code.times(n, co)))
        row = build.sub(code.times(build.udiv(pixel, number(wo)), shape.strides[0]), number(shape.padding[0][0]))
        column = build.sub(code.times(build.urem(pixel, number(wo)), shape.strides[1]), number(shape.padding[1][0]))
        for i in range(shape.kernel_size[0]):
            r = build.add(row, number(i))
            with build.if_then(build.icmp_unsigned("<", r, number(shape.height))):
                line = code.at(image, code.times(r, shape.width * ci))
                for j in range(shape.kernel_size[1]):
                    c = build.add(column, number(j))
                    with build.if_then(build.icmp_unsigned("<", c, number(shape.width))):
                        tap = code.at(dw, (i * shape.kernel_size[1] + j) * ci)
                        _add_pixel(code, tiling, tap, code.at(line, code.times(c, ci)), value)
    build.ret_void()
    return code.function


def _add_pixel(code: Function, tiling: WgradTiling, to: Any, pixel: Any, value: Any) -> None:
    """to[ci] += value · pixel[ci]."""
    for first, size, many in pieces(tiling.shape.in_channels, tiling.lanes):
        kind = ir.VectorType(FLOAT, size)
        with code.loop(number(many)) as (turn, _):
            offset = code.times(turn, size)
            pointer = code.vector(code.at(to, offset), first, kind)
            read = code.build.load(code.vector(code.at(pixel, offset), first, kind), align=4)
            code.build.store(code.multiply_add(value, read, code.build.load(pointer, align=4)), pointer, align=4)


def _slice(module: ir.Module, tiling: TopkWgrad, add_patches: ir.Function) -> None:
    """A share of the images and of the output channels, group by group."""
    shape = tiling.shape
    co, patch = shape.out_channels, prod(tiling.result[1:])
    code = Function(module, "slice", [INDEX, *[FLOATS] * 4])
    build, (slice_number, x, dy, dw, workspace) = code.build, code.arguments
    share = Share(code, slice_number, shape.batch, tiling.blocks[0][2], tiling.image_shares, tiling.channel_shares)
    total = own_sums(code, tiling, share, dw, workspace)  # [Co, patch]
    sums = code.at(workspace, tiling.partial_sums, code.times(slice_number, tiling.scratch))  # [group, Co]
    positions = build.bitcast(code.at(sums, tiling.group * co), POSITIONS)  # [group, Co]
    begin = code.times(share.low, tiling.tile[1])
    end = build.select(share.is_last, number(co), code.times(share.high, tiling.tile[1]))
    code.clear(code.at(total, code.times(begin, patch)), code.times(build.sub(end, begin), patch))
    with share.groups(tiling.group) as (start, count):
        with code.loop(count) as (n, _):
            image = code.at(dy, code.times(build.add(start, n), prod(shape.y_shape[1:])))
            for columns, channel in share.blocks(co, tiling.tile[1]):
                entry = build.add(code.times(n, co), channel)
                pointers = [build.gep(positions, [entry]), code.at(sums, entry)]
                build.call(argmax_and_sum(module, tiling, columns), [code.at(image, channel), *pointers])
        images = code.at(x, code.times(start, prod(shape.x_shape[1:])))
        with code.loop(build.sub(end, begin)) as (offset, _):
            channel = build.add(begin, offset)
            entries = [build.gep(positions, [channel]), code.at(sums, channel)]
            build.call(add_patches, [images, *entries, code.at(total, code.times(channel, patch)), count])
    build.ret_void()
