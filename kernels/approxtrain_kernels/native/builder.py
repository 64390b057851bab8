"""Writing LLVM's intermediate code: a function under construction, with loops, and how its work is divided.

Imports no jax.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from approxtrain_kernels.geometry import pieces

FLOAT, INDEX, BYTE, BIT = ir.FloatType(), ir.IntType(64), ir.IntType(8), ir.IntType(1)
FLOATS = FLOAT.as_pointer()


def number(value: int) -> ir.Constant:
    return ir.Constant(INDEX, value)


class Function:
    """A function `name(arguments) → void` under construction; `build` is llvmlite's builder, at the function's end.

    `inline=False` keeps LLVM from compiling the function anew at each place that calls it; `apart` says that the memory
    behind no pointer overlaps that behind another.
    """

    def __init__(
        self, module: ir.Module, name: str, arguments: Sequence[ir.Type], *, inline: bool = True, apart: bool = False
    ) -> None:
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
        if not inline:
            self.function.attributes.add("noinline")
        self.arguments: Sequence[Any] = self.function.args
        for pointer in [argument for argument in self.arguments if apart and argument.type == FLOATS]:
            pointer.add_attribute("noalias")
        self.build = ir.IRBuilder(self.function.append_basic_block())
        self.module = module

    @contextmanager
    def loop(self, count: Any, carried: Sequence[Any] = ()) -> Iterator[tuple[Any, list[Any]]]:
        """`with loop(n, values) as (i, now)`: the body runs for each i < n.

        The list `now` begins as `values`. The body may replace its entries, which the next turn then finds; after the
        loop it holds the last ones.
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
        """The pointer `floats` moved on by all the offsets, each an int or a value, counted in float32 numbers."""
        for offset in offsets:
            floats = self.build.gep(floats, [number(offset) if isinstance(offset, int) else offset])
        return floats

    def times(self, index: Any, size: int) -> Any:
        return self.build.mul(index, number(size))

    def copy(self, to: Any, source: Any, floats: Any) -> None:
        kinds = [FLOATS, FLOATS, INDEX, BIT]
        self.build.call(self.intrinsic("llvm.memcpy.p0.p0.i64", kinds), [to, source, self.times(floats, 4), BIT(0)])

    def clear(self, to: Any, floats: Any) -> None:
        kinds = [FLOATS, BYTE, INDEX, BIT]
        self.build.call(self.intrinsic("llvm.memset.p0.i64", kinds), [to, BYTE(0), self.times(floats, 4), BIT(0)])

    def vector(self, floats: Any, offset: int, kind: ir.VectorType) -> Any:
        """The pointer to a vector that begins `offset` numbers after `floats`."""
        return self.build.bitcast(self.at(floats, offset), kind.as_pointer())

    def spread(self, value: Any, kind: ir.VectorType) -> Any:
        """A vector that is filled with one number."""
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.build.insert_element(undefined, value, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
        return self.build.shuffle_vector(first, undefined, zeros)

    def multiply_add(self, value: Any, vector: Any, total: Any) -> Any:
        """total + value · vector, of one number and two vectors."""
        kind = vector.type
        function = self.intrinsic(f"llvm.fma.v{kind.count}f32", [kind] * 3, kind)
        return self.build.call(function, [self.spread(value, kind), vector, total])

    def intrinsic(self, name: str, arguments: Sequence[ir.Type], result: ir.Type | None = None) -> ir.Function:
        """One of LLVM's own functions, declared once a module."""
        kind = ir.FunctionType(result or ir.VoidType(), arguments)
        return self.module.globals.get(name) or ir.Function(self.module, kind, name)


class Share:
    """What one slice of the work is given: a share of the images, and one of the blocks of channels.

    `number`: which share of the images; images [first, last); whole blocks [low, high); `is_last`: whether the slice's
    channels are the last ones; `rest`: 1 where the channels that are left beside whole blocks are its, else 0.
    """

    def __init__(
        self, code: Function, slice_number: Any, batch: int, blocks: int, image_shares: int, channel_shares: int
    ) -> None:
        """The share of slice `slice_number`, of a batch and of so many whole blocks of channels."""
        build, self.code = code.build, code
        self.number = build.sdiv(slice_number, number(channel_shares))
        side = build.srem(slice_number, number(channel_shares))
        self.first, self.last = (self._bound(self.number, step, batch, image_shares) for step in (0, 1))
        self.low, self.high = (self._bound(side, step, blocks, channel_shares) for step in (0, 1))
        self.is_last = build.icmp_signed("==", side, number(channel_shares - 1))
        self.rest = build.select(self.is_last, number(1), number(0))

    def _bound(self, share: Any, step: int, size: int, shares: int) -> Any:
        """Where share number `share` + `step`, of `shares` about equal ones, begins in `size`."""
        after = self.code.build.add(share, number(step))
        return self.code.build.sdiv(self.code.times(after, size), number(shares))

    @contextmanager
    def groups(self, size: int) -> Iterator[tuple[Any, Any]]:
        """`with share.groups(size) as (start, count)`: the body runs for each group of up to `size` images."""
        code, build = self.code, self.code.build
        many = build.sdiv(build.add(build.sub(self.last, self.first), number(size - 1)), number(size))
        with code.loop(many) as (turn, _):
            start = build.add(self.first, code.times(turn, size))
            left = build.sub(self.last, start)
            yield start, build.select(build.icmp_signed("<", left, number(size)), left, number(size))

    def blocks(self, channels: int, size: int) -> Iterator[tuple[int, Any]]:
        """(channels, the first of them) of the slice's blocks: of those of `size` channels, then of the rest.

        What is written until the next is asked for runs for each block of a kind.
        """
        code, build = self.code, self.code.build
        for first, columns, _ in pieces(channels, size):
            low, count = self.low, build.sub(self.high, self.low)
            if columns < size:
                low, count = number(0), self.rest
            with code.loop(count) as (block, _):
                yield columns, build.add(number(first), code.times(build.add(low, block), columns))


def vectors_of(columns: int, lanes: int) -> list[tuple[int, ir.VectorType]]:
    """(first, type) of the vectors that hold `columns` neighbours: full registers, and what is left."""
    return [
        (first + turn * size, ir.VectorType(FLOAT, size))
        for first, size, many in pieces(columns, lanes)
        for turn in range(many)
    ]
