"""One pass over dO of an image: for each channel the place of its largest entry, and the sum of its plane.

    m(co) = argmax_pq |dO[p, q, co]|        s(co) = Σ_pq dO[p, q, co]

The first of equal entries is taken, in row-major order.
"""

from __future__ import annotations

from llvmlite import ir

from approxtrain_kernels.native.code import FLOATS, Function, number, vectors_of
from approxtrain_kernels.native.cut import Cut

POSITION = ir.IntType(32)
POSITIONS = POSITION.as_pointer()


def look(module: ir.Module, cut: Cut, columns: int) -> ir.Function:
    """look(dy, position, total): of one image and so many channels, the place of the largest |dy|, and the sum."""
    _, ho, wo, co = cut.shape.y_shape
    code = Function(module, f"look{columns}", [FLOATS, POSITIONS, FLOATS], inline=False)
    build, (dy, position, total) = code.build, code.arguments
    vectors = vectors_of(columns, cut.lanes)
    first = []
    for _, kind in vectors:
        places = ir.VectorType(POSITION, kind.count)
        first += [ir.Constant(kind, [-1.0] * kind.count), ir.Constant(places, [0] * kind.count)]
        first.append(ir.Constant(kind, [0.0] * kind.count))
    with code.loop(number(ho * wo), first) as (pixel, now):
        here = build.trunc(pixel, POSITION)
        for at, (offset, kind) in enumerate(vectors):
            largest, place, total_ = now[3 * at : 3 * at + 3]
            value = build.load(code.vector(code.at(dy, code.times(pixel, co)), offset, kind), align=4)
            size = build.call(code.known(f"llvm.fabs.v{kind.count}f32", [kind], kind), [value])
            larger = build.fcmp_ordered(">", size, largest)
            everywhere = code.spread(here, ir.VectorType(POSITION, kind.count))
            now[3 * at : 3 * at + 3] = [
                build.select(larger, size, largest),
                build.select(larger, everywhere, place),
                build.fadd(total_, value),  # a NaN anywhere in the plane reaches dW through the sum
            ]
    for at, (offset, kind) in enumerate(vectors):
        places = build.gep(position, [number(offset)])
        build.store(now[3 * at + 1], build.bitcast(places, now[3 * at + 1].type.as_pointer()), align=4)
        build.store(now[3 * at + 2], code.vector(total, offset, kind), align=4)
    build.ret_void()
    return code.function
