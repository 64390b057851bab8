"""How a weight gradient on a CPU is tiled: slices for threads, groups of images for a cache, tiles for registers.

A group is as many images as a core's second-level cache holds with their dO, since every tile reads them again. In
`pooled` a tap reads only one in r² of the box sums, so a group of few pixels may have more images than that.
A slice is a share of the images, with a dW of its own, or of the output channels where dW is large.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod

from approxtrain_kernels.geometry import pieces
from approxtrain_kernels.native.kernel import Kernel, Size

GROUP_BYTES = 2**19
"""Of x and dO of a group, or of what a tap reads of them: half of a second-level cache of 1 MB."""
LEAST_PIXELS = 128
"""Block means in a group of `pooled`, if a tap's share of them is cached: the sums of each group are added to dW in
memory, which takes as long as to sum up some tens of pixels."""
SUMMED_BYTES = 2**23
"""Of the dW of all shares of the images together; a dW that would exceed it is divided by output channels."""
FEW_CHANNELS = 16
"""Below this many input channels a tile has several taps; with a stride, below twice as many."""
REGISTERS = {16: 32, 8: 16}
"""float32 numbers that a register holds → registers: AVX-512, AVX2."""
MOST_TOTALS = 24
"""Registers of totals in a tile: more would not make it faster, and the compiler needs some for itself."""


@dataclass(frozen=True)
class WgradTiling(Kernel):
    """The tiling of a weight gradient of `shape`."""

    r: int = 1
    """Rows and columns of a block of dO that is replaced by its mean; they divide Ho and Wo."""
    scatter_top1: bool = False
    """Whether dO is 0 but for the largest entry of each plane, which carries the plane's sum."""

    sums_over_batch = True

    @property
    def operands(self) -> dict[str, Size]:
        return {"x": self.shape.x_shape, "dy": self.shape.y_shape}

    @property
    def by_tap(self) -> bool:
        """Whether a tile belongs to one tap; otherwise to a row of taps."""
        return self.shape.in_channels >= FEW_CHANNELS * (1 if self.shape.strides == (1, 1) else 2)

    @property
    def line(self) -> int:
        """Neighbouring numbers of x that tiles share: those of a tap `[Ci]`, or of a row of taps `[Kw, Ci]`."""
        return self.shape.in_channels * (1 if self.by_tap else self.shape.kernel_size[1])

    @cached_property
    def tile(self) -> tuple[int, int]:
        """(rows, columns) of dW `[line, Co]`: the fewest loads for a multiply-add, and rows that are about equal."""
        candidates = []
        for vectors in range(1, min(4, ceil(self.shape.out_channels / self.lanes)) + 1):
            most = most_rows(vectors, self.lanes)
            rows = ceil(self.line / ceil(self.line / most))
            candidates.append(((rows + vectors) / (rows * vectors), rows, vectors * self.lanes))
        _, rows, columns = min(candidates)
        return rows, columns

    @property
    def rows(self) -> list[tuple[int, int, int]]:
        """(first, rows, how many) of the tiles along a line: equal ones, and what is left."""
        return pieces(self.line, self.tile[0])

    @property
    def blocks(self) -> list[tuple[int, int, int]]:
        """(first, columns, how many) of the tiles along the output channels."""
        return pieces(self.shape.out_channels, self.tile[1])

    @cached_property
    def image_shares(self) -> int:
        """Shares of the batch, each with a dW of its own."""
        fit = max(SUMMED_BYTES // (4 * prod(self.shape.w_shape)), 1)
        return min(self.threads, self.shape.batch, fit)

    @cached_property
    def channel_shares(self) -> int:
        """Shares of the blocks of output channels."""
        return min(max(self.threads // self.image_shares, 1), max(self.blocks[0][2], 1))

    @property
    def slices(self) -> int:
        return self.image_shares * self.channel_shares

    @property
    def strides(self) -> tuple[int, int]:
        """Rows and columns of x from one row, and one column, of dO or its means to the next."""
        return self.shape.strides[0] * self.r, self.shape.strides[1] * self.r

    @property
    def outputs(self) -> tuple[int, int]:
        """Rows and columns of dO, or of its means: [Ho / r, Wo / r]."""
        return self.shape.y_shape[1] // self.r, self.shape.y_shape[2] // self.r

    @cached_property
    def bordered(self) -> tuple[int, int]:
        """Rows and columns of an image, or of its box sums, with the border, as far as any tap reaches."""
        sizes = zip(self.outputs, self.strides, self.shape.kernel_size, strict=True)
        height, width = ((out - 1) * s + k for out, s, k in sizes)
        return height, width

    @cached_property
    def padded(self) -> tuple[int, int]:
        """Rows and columns of an image with its border, as far as any box reaches."""
        height, width = (size + (self.r - 1) * s for size, s in zip(self.bordered, self.shape.strides, strict=True))
        return height, width

    @property
    def corner(self) -> tuple[int, int]:
        """Rows of padding above an image, and columns left of it."""
        return self.shape.padding[0][0], self.shape.padding[1][0]

    @property
    def copies(self) -> bool:
        """Whether the tiles read x from the workspace, as box sums or with a border, and not where it lies."""
        as_it_is = self.by_tap or (self.padded == (self.shape.height, self.shape.width) and self.corner == (0, 0))
        return self.r > 1 or not as_it_is

    @property
    def changes_dy(self) -> bool:
        """Whether the tiles read dO from the workspace, as means or with one entry of each plane."""
        return self.r > 1 or self.scatter_top1

    @property
    def plane(self) -> tuple[int, int]:
        """Rows and columns of what the tiles read for an image."""
        return self.bordered if self.copies else (self.shape.height, self.shape.width)

    def reach(self, axis: int, tap: int) -> tuple[int, int]:
        """(first, count) of the outputs for which a tap sees more than the border, along rows (0) or columns (1)."""
        lo, s = self.corner[axis], self.strides[axis]
        low = max(lo - (self.r - 1) * self.shape.strides[axis], 0)
        high = min(lo + (self.shape.height, self.shape.width)[axis], self.bordered[axis])
        first = max(-(-(low - tap) // s), 0)
        return first, max(min((high - 1 - tap) // s + 1, self.outputs[axis]) - first, 0)

    @cached_property
    def group(self) -> int:
        """Images of a group."""
        fit = max(GROUP_BYTES // (4 * (self.image + self.gradient)), 1)
        if self.r > 1:
            pixels = prod(self.outputs)
            by_a_tap = GROUP_BYTES // (4 * pixels * (self.shape.in_channels + self.shape.out_channels))
            fit = max(fit, min(ceil(LEAST_PIXELS / pixels), by_a_tap))
        return min(fit, ceil(self.shape.batch / self.image_shares))

    @property
    def image(self) -> int:
        """Numbers of what the tiles read of x for an image, `[*plane, Ci]`."""
        return prod(self.plane) * self.shape.in_channels

    @property
    def gradient(self) -> int:
        """Numbers of dO, or of its means, for an image, `[*outputs, Co]`."""
        return prod(self.outputs) * self.shape.out_channels

    @property
    def line_sums(self) -> int:
        """Numbers of a row of an image with its border, summed over the rows of a block, `[padded width, Ci]`."""
        return self.padded[1] * self.shape.in_channels if self.r > 1 else 0

    @property
    def scratch(self) -> int:
        """Numbers that each slice has of its own: x and dO of a group where they change, and what that takes."""
        x = self.group * self.image if self.copies else 0
        dy = self.group * self.gradient if self.changes_dy else 0
        entries = 2 * self.shape.out_channels if self.scatter_top1 else 0  # a sum and a position for each channel
        return x + dy + self.line_sums + entries

    @property
    def partial_sums(self) -> int:
        """Numbers of the dW of all shares of the images but the first, `[image_shares − 1, Kh, Kw, Ci, Co]`."""
        return (self.image_shares - 1) * prod(self.shape.w_shape)

    @property
    def workspace(self) -> int:
        """Numbers: the partial sums, then the scratch of each slice."""
        return max(self.partial_sums + self.slices * self.scratch, 1)


def most_rows(vectors: int, lanes: int) -> int:
    """Rows of a tile of `vectors` registers a row: what it loads for a row needs registers too, beside the totals.

    AVX-512 multiplies by a number in memory; AVX2 has to spread it over a register first.
    """
    free = min(REGISTERS[lanes] - vectors - (lanes < 16), MOST_TOTALS)
    return max(free // vectors, 1)
