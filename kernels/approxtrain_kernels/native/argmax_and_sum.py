"""One pass over dO of an image: for each channel the position of its largest entry, and the sum of its plane.

    m(co) = argmax_pq |dO[p, q, co]|        s(co) = Σ_pq dO[p, q, co]

The first of equal entries is taken, in row-major order.
"""

from __future__ import annotations

from llvmlite import ir

from approxtrain_kernels.native.builder import FLOATS, Function, number, vectors_of
from approxtrain_kernels.native.wgrad_tiling import WgradTiling

POSITION = ir.IntType(32)
POSITIONS = POSITION.as_pointer()


def argmax_and_sum(module: ir.Module, tiling: WgradTiling, columns: int) -> ir.Function:
    """argmax_and_sum(dy, position, total): of one image and `columns` channels, from dy `[Ho·Wo, Co]`."""
    _, ho, wo, co = tiling.shape.y_shape
    name = f"argmax_and_sum{columns}"
    if name in module.globals:
        return module.globals[name]
    code = Function(module, name, [FLOATS, POSITIONS, FLOATS], inline=False)
    build, (dy, position, total) = code.build, code.arguments
    vectors = vectors_of(columns, tiling.lanes)
    first = []  # for each vector: the largest |dO| so far, its position, the sum so far
    for _, kind in vectors:
        first.append(ir.Constant(kind, [-1.0] * kind.count))
        first.append(ir.Constant(ir.VectorType(POSITION, kind.count), [0] * kind.count))
        first.append(ir.Constant(kind, [0.0] * kind.count))
    with code.loop(number(ho * wo), first) as (pixel, now):
        here = build.trunc(pixel, POSITION)
        for index, (offset, kind) in enumerate(vectors):
            largest, where, sum_ = now[3 * index : 3 * index + 3]
            value = build.load(code.vector(code.at(dy, code.times(pixel, co)), offset, kind), align=4)
            size = build.call(code.intrinsic(f"llvm.fabs.v{kind.count}f32", [kind], kind), [value])
            larger = build.fcmp_ordered(">", size, largest)
            everywhere = code.spread(here, ir.VectorType(POSITION, kind.count))
            now[3 * index : 3 * index + 3] = [
                build.select(larger, size, largest),
                build.select(larger, everywhere, where),
                build.fadd(sum_, value),  # a NaN anywhere in the plane reaches dW through the sum
            ]
    for index, (offset, kind) in enumerate(vectors):
        _, where, sum_ = now[3 * index : 3 * index + 3]
        to = build.gep(position, [number(offset)])
        build.store(where, build.bitcast(to, where.type.as_pointer()), align=4)
        build.store(sum_, code.vector(total, offset, kind), align=4)
    build.ret_void()
    return code.function
