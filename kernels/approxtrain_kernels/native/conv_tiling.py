"""How a forward or an input gradient on a CPU is tiled: phases, slices for threads, groups of images, tiles.

Both are one sum: a pixel of the target takes, through each of its taps, a pixel of the source. In an input gradient
the taps of a pixel depend on its row and column modulo the stride, its phase; a forward has one phase.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from math import ceil, prod
from typing import NamedTuple

from approxtrain_kernels.geometry import Pair, pieces
from approxtrain_kernels.native.kernel import Kernel
from approxtrain_kernels.native.wgrad_tiling import most_rows

GROUP_BYTES = 2**19
"""Of source and target of a group of images: half of a second-level cache of 1 MB."""
PANEL_BYTES = 24 * 2**10
"""Of the weights that a tile reads at once: they stay in a first-level cache of 32 KB while all pixels pass."""
TAP_COST = 4
"""Cost of reloading and storing one partial sum, in multiply-adds per channel."""
PACKED_BYTES = 2**20
"""Larger weights are not packed whole by every slice: slices share out the channels, and not the images alone."""


class Axis(NamedTuple):
    """The target's pixels of one phase along an axis, and the taps that they have in common."""

    start: int
    """The phase's first pixel in the target."""
    length: int
    """How many pixels the phase has."""
    first: int
    """The source pixel that the first pixel reads through its lowest tap; negative within the border."""
    taps: tuple[int, ...]
    """The taps' places in the kernel, in the order of the source pixels that they read."""

    def reach(self, tap: int, step: int, size: int) -> Pair:
        """(first, count) of the phase's pixels for which tap number `tap` sees more than the border."""
        at = self.first + tap
        first = max(-(at // step), 0)
        return first, max(min((size - 1 - at) // step + 1, self.length) - first, 0)


class Box(NamedTuple):
    """The pixels of a tile: neighbours in a row, or whole rows, or whole images."""

    images: int
    rows: int
    columns: int


class Panel(NamedTuple):
    """The taps of a phase that a tile takes at once, and the pixels of the phase that it takes them for.

    A row of taps is `[taps, source channels]` numbers, which are neighbours in the source and in the packed weights.
    """

    row: int
    """The first row of taps."""
    rows: int
    """How many rows of taps."""
    first: int
    """The first number of a row of taps."""
    line: int
    """How many numbers of a row of taps."""
    down: Pair
    """(first, count) of the rows of pixels."""
    across: Pair
    """(first, count) of the columns of pixels."""
    fresh: bool
    """Whether the pixels have no sum yet, so that theirs is stored and not added."""


@dataclass(frozen=True)
class ConvTiling(Kernel):
    """The tiling of the forward of `shape`, or with `backward` of its input gradient."""

    backward: bool = False

    @property
    def source(self) -> tuple[int, int, int]:
        """Rows, columns, channels of what is read."""
        return (self.shape.y_shape if self.backward else self.shape.x_shape)[1:]

    @property
    def target(self) -> tuple[int, int, int]:
        """Rows, columns, channels of what is written."""
        return (self.shape.x_shape if self.backward else self.shape.y_shape)[1:]

    @property
    def step(self) -> Pair:
        """Source pixels from one target pixel of a phase to the next."""
        return (1, 1) if self.backward else self.shape.strides

    @property
    def spread(self) -> Pair:
        """Target pixels from one of a phase to the next."""
        return self.shape.strides if self.backward else (1, 1)

    @cached_property
    def axes(self) -> tuple[list[Axis], list[Axis]]:
        """The phases of rows and of columns."""
        return self._phases(0), self._phases(1)

    def _phases(self, axis: int) -> list[Axis]:
        size, k, lo = self.target[axis], self.shape.kernel_size[axis], self.shape.padding[axis][0]
        if not self.backward:
            return [Axis(0, size, -lo, tuple(range(k)))]
        s, phases = self.shape.strides[axis], []
        for start in range(min(s, size)):
            taps = [tap for tap in reversed(range(k)) if (start + lo - tap) % s == 0]
            first = (start + lo - taps[0]) // s if taps else 0
            phases.append(Axis(start, ceil((size - start) / s), first, tuple(taps)))
        return phases

    @property
    def phases(self) -> list[tuple[Axis, Axis]]:
        """(rows, columns) of each phase."""
        return list(product(*self.axes))

    @cached_property
    def border(self) -> tuple[Pair, Pair]:
        """(before, after) of rows and of columns: zeros that some tap reads beside the source."""
        borders = []
        for axis, size, step in zip(self.axes, self.source, self.step, strict=False):
            reading = [phase for phase in axis if phase.taps]
            low = max([-phase.first for phase in reading], default=0)
            ends = [(phase.length - 1) * step + phase.first + len(phase.taps) for phase in reading]
            borders.append((max(low, 0), max(max(ends, default=0) - size, 0)))
        return borders[0], borders[1]

    @cached_property
    def by_tap(self) -> bool:
        """Whether each tap is taken alone, over the pixels for which it sees more than the border.

        That saves the products with zeros, which are many on small maps, and costs a load and a store of each sum for
        each tap, which is little where there are many channels.
        """
        done, whole = 0, 0
        for phase in self.phases:
            reaches = [[count for _, count in self._reaches(axis, phase[axis])] for axis in (0, 1)]
            if any(axis.taps and axis.length not in counts for axis, counts in zip(phase, reaches, strict=True)):
                return False  # the first tap has to give every pixel a sum
            done += sum(reaches[0]) * sum(reaches[1])
            whole += prod(axis.length * len(axis.taps) for axis in phase)
        return (whole - done) * self.source[2] > TAP_COST * whole

    def _reaches(self, axis: int, phase: Axis) -> list[Pair]:
        """(first, count) of the pixels that each tap of a phase reaches, along axis 0 (rows) or 1 (columns)."""
        return [phase.reach(tap, self.step[axis], self.source[axis]) for tap in range(len(phase.taps))]

    @property
    def copies(self) -> bool:
        """Whether the tiles read the source from the workspace, with its border."""
        return any(map(any, self.border)) and not self.by_tap

    @property
    def plane(self) -> Pair:
        """Rows and columns of what the tiles read for an image."""
        (top, bottom), (left, right) = self.border if self.copies else ((0, 0), (0, 0))
        return top + self.source[0] + bottom, left + self.source[1] + right

    @property
    def image(self) -> int:
        """Numbers of what the tiles read for an image, `[*plane, source channels]`."""
        return prod(self.plane) * self.source[2]

    @cached_property
    def columns(self) -> int:
        """Channels of the target of a tile: those that need the fewest loads for a multiply-add."""
        candidates = []
        channels, (rows, columns) = self.target[2], self.phases[0]
        for vectors in range(1, min(4, ceil(channels / self.lanes)) + 1):
            loads = 0.0
            for _, size, many in pieces(channels, vectors * self.lanes):
                pixels = prod(self.box(size, rows.length, columns.length))
                loads += many * (1 + ceil(size / self.lanes) / pixels)
            candidates.append((loads, vectors * self.lanes))
        return min(candidates)[1]

    @property
    def blocks(self) -> list[tuple[int, int, int]]:
        """(first, channels, how many) of the tiles along the target's channels."""
        return pieces(self.target[2], self.columns)

    def box(self, channels: int, rows: int, columns: int) -> Box:
        """The pixels of a tile of so many channels, of rows × columns: as many as it has registers for, all alike."""
        most = most_rows(ceil(channels / self.lanes), self.lanes)
        if columns > most:
            return Box(1, 1, ceil(columns / ceil(columns / most)))
        most //= columns
        if rows > most:
            return Box(1, ceil(rows / ceil(rows / most)), columns)
        return Box(max(min(most // rows, self.group), 1), rows, columns)

    @property
    def weights(self) -> int:
        """Numbers of w."""
        return prod(self.shape.w_shape)

    @property
    def packs(self) -> bool:
        """Whether the weights are packed, which is to say that the tiles read them in another order than they have."""
        return self.backward or self.blocks != [(0, self.target[2], 1)]

    @cached_property
    def channel_shares(self) -> int:
        """Shares of the blocks of the target's channels."""
        return min(self.threads, self.blocks[0][2]) if 4 * self.weights > PACKED_BYTES else 1

    @cached_property
    def image_shares(self) -> int:
        """Shares of the batch."""
        return max(min(self.threads // self.channel_shares, self.shape.batch), 1)

    @property
    def slices(self) -> int:
        return self.image_shares * self.channel_shares

    @cached_property
    def group(self) -> int:
        """Images of a group."""
        fit = max(GROUP_BYTES // (4 * (self.image + prod(self.target))), 1)
        return min(fit, ceil(self.shape.batch / min(self.threads, self.shape.batch)))

    def panels(self, channels: int, phase: tuple[Axis, Axis]) -> list[Panel]:
        """The taps of a phase, as panels for a tile of so many channels: several rows of taps, or a piece of one."""
        rows, depth = len(phase[0].taps), self.source[2]
        line = len(phase[1].taps) * depth
        everywhere = (0, phase[0].length), (0, phase[1].length)
        most = max(PANEL_BYTES // (4 * channels), 1)
        if rows * line == 0:
            return [Panel(0, 0, 0, 0, *everywhere, True)]
        if self.by_tap:
            down, across = (self._reaches(axis, phase[axis]) for axis in (0, 1))
            taps = sorted(
                product(range(rows), range(len(across))), key=lambda tap: -down[tap[0]][1] * across[tap[1]][1]
            )
            panels = [
                Panel(i, 1, j * depth + first, size, down[i], across[j], True)
                for i, j in taps
                for first, size in _equal(depth, most)
            ]
        elif line > most:
            runs = _equal(line, most)
            panels = [Panel(row, 1, first, size, *everywhere, True) for row in range(rows) for first, size in runs]
        else:
            panels = [Panel(row, size, 0, line, *everywhere, True) for row, size in _equal(rows, most // line)]
        return [panels[0], *(panel._replace(fresh=False) for panel in panels[1:])]

    @property
    def packed(self) -> int:
        """Numbers of the packed weights of the most channels that a slice has."""
        _, channels, many = self.blocks[0]
        most = ceil(many / self.channel_shares) * channels + self.target[2] - many * channels
        return most * self.weights // self.target[2] if self.packs else 0

    @property
    def scratch(self) -> int:
        """Numbers that each slice has of its own: its packed weights, and the source of a group with its border."""
        return self.packed + (self.group * self.image if self.copies else 0)

    @property
    def workspace(self) -> int:
        """Numbers: the scratch of each slice."""
        return max(self.slices * self.scratch, 1)


def _equal(size: int, most: int) -> list[tuple[int, int]]:
    """(first, size) of the fewest pieces of at most `most`, as equal as they can be."""
    many = ceil(size / most)
    ends = [size * piece // many for piece in range(many + 1)]
    return [(start, end - start) for start, end in pairwise(ends)]
