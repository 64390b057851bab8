"""Writing LLVM's intermediate code: a function under construction, with loops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from approxtrain_kernels.native.cut import pieces

FLOAT, INDEX, BYTE, BIT = ir.FloatType(), ir.IntType(64), ir.IntType(8), ir.IntType(1)
FLOATS = FLOAT.as_pointer()


def number(value: int) -> ir.Constant:
    return ir.Constant(INDEX, value)


class Function:
    """A function `name(arguments) → void`; `build` is llvmlite's builder, at its end.

    Without `inline` it is compiled once, and not anew at each call.
    """

    def __init__(self, module: ir.Module, name: str, arguments: Sequence[ir.Type], *, inline: bool = True) -> None:
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
        if not inline:
            self.function.attributes.add("noinline")
        self.build = ir.IRBuilder(self.function.append_basic_block())
        self.module = module

    @property
    def arguments(self) -> Sequence[Any]:
        return self.function.args

    @contextmanager
    def loop(self, count: Any, carried: Sequence[Any] = ()) -> Iterator[tuple[Any, list[Any]]]:
        """`with loop(n, values) as (i, now)`: the body for i < n.

        It may replace what is in the list `now`, which begins as `values` and goes from turn to turn; after the loop
        it holds the last.
        """
        build, before = self.build, self.build.block
        head, body, after = (self.function.append_basic_block() for _ in range(3))
        build.branch(head)
        build.position_at_end(head)
        index = build.phi(INDEX)
        index.add_incoming(number(0), before)
        first = [build.phi(value.type) for value in carried]
        for phi, value in zip(first, carried, strict=True):
            phi.add_incoming(value, before)
        build.cbranch(build.icmp_signed("<", index, count), body, after)
        build.position_at_end(body)
        now = list(first)
        yield index, now
        index.add_incoming(build.add(index, number(1)), build.block)
        for phi, value in zip(first, now, strict=True):
            phi.add_incoming(value, build.block)
        build.branch(head)
        build.position_at_end(after)
        now[:] = first

    def at(self, floats: Any, *offsets: Any) -> Any:
        """The pointer `floats` moved on by all offsets, in numbers; ints or values."""
        for offset in offsets:
            floats = self.build.gep(floats, [number(offset) if isinstance(offset, int) else offset])
        return floats

    def times(self, index: Any, size: int) -> Any:
        return self.build.mul(index, number(size))

    def smaller(self, a: Any, b: Any) -> Any:
        return self.build.select(self.build.icmp_signed("<", a, b), a, b)

    def copy(self, to: Any, source: Any, floats: Any) -> None:
        kinds = [FLOATS, FLOATS, INDEX, BIT]
        self.build.call(self.known("llvm.memcpy.p0.p0.i64", kinds), [to, source, self.times(floats, 4), BIT(0)])

    def clear(self, to: Any, floats: Any) -> None:
        kinds = [FLOATS, BYTE, INDEX, BIT]
        self.build.call(self.known("llvm.memset.p0.i64", kinds), [to, BYTE(0), self.times(floats, 4), BIT(0)])

    def vector(self, floats: Any, offset: int, kind: ir.VectorType) -> Any:
        """The pointer to a vector that begins `offset` numbers after `floats`."""
        return self.build.bitcast(self.at(floats, offset), kind.as_pointer())

    def spread(self, value: Any, kind: ir.VectorType) -> Any:
        """A vector that is filled with one number."""
        nothing = ir.Constant(kind, ir.Undefined)
        first = self.build.insert_element(nothing, value, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
        return self.build.shuffle_vector(first, nothing, zeros)

    def multiply_add(self, value: Any, vector: Any, total: Any) -> Any:
        """total + value · vector, of one number and two vectors."""
        kind = vector.type
        function = self.known(f"llvm.fma.v{kind.count}f32", [kind] * 3, kind)
        return self.build.call(function, [self.spread(value, kind), vector, total])

    def known(self, name: str, arguments: Sequence[ir.Type], result: ir.Type | None = None) -> ir.Function:
        """A function that LLVM has, declared once a module."""
        kind = ir.FunctionType(result or ir.VoidType(), arguments)
        return self.module.globals.get(name) or ir.Function(self.module, kind, name)


def vectors_of(columns: int, lanes: int) -> list[tuple[int, ir.VectorType]]:
    """(first, kind) of the vectors that hold so many neighbours: full registers, and what is left."""
    return [
        (first + number_ * size, ir.VectorType(FLOAT, size))
        for first, size, many in pieces(columns, lanes)
        for number_ in range(many)
    ]
