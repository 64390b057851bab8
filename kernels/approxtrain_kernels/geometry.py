"""The geometry of a 2-D convolution: padding, output size, operations. Imports no jax.

A convolution here is NHWC in, HWIO kernel, NHWC out, without groups and without dilation:

    y[n, p, q, co] = Σ_{i, j, ci}  x[n, p·s_h + i − lo_h, q·s_w + j − lo_w, ci] · w[i, j, ci, co]

where positions outside of x count as zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index

Pair = tuple[int, int]
Padding = str | Sequence[Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class ConvShape:
    """Everything static about one convolution. `padding` is explicit: ((lo, hi) of H, (lo, hi) of W)."""

    batch: int
    height: int
    width: int
    in_channels: int
    out_channels: int
    kernel_size: Pair
    strides: Pair
    padding: tuple[Pair, Pair]

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return (self.batch, self.height, self.width, self.in_channels)

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        return (*self.kernel_size, self.in_channels, self.out_channels)

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        sizes = zip((self.height, self.width), self.kernel_size, self.strides, self.padding, strict=True)
        ho, wo = ((n + lo + hi - k) // s + 1 for n, k, s, (lo, hi) in sizes)
        return (self.batch, ho, wo, self.out_channels)

    @property
    def macs(self) -> int:
        """Multiply-adds of one dense pass (forward, dgrad and wgrad cost the same), border taps included."""
        n, ho, wo, co = self.y_shape
        return n * ho * wo * co * self.in_channels * self.kernel_size[0] * self.kernel_size[1]

    @property
    def flops(self) -> int:
        """Floating-point operations of one dense pass: two for each multiply-add."""
        return 2 * self.macs


def conv_shape(
    x_shape: Sequence[int],
    out_channels: int,
    kernel_size: Sequence[int],
    strides: Sequence[int] = (1, 1),
    padding: Padding = "SAME",
) -> ConvShape:
    """Check the arguments of a convolution and resolve its padding.

    Raises ValueError, naming the argument and its value, for anything that this package does not compute.
    """
    if len(x_shape) != 4:
        raise ValueError(f"`x` must have the four axes N, H, W, C, but its shape is {tuple(x_shape)}.")
    batch, height, width, in_channels = _sizes("x_shape", x_shape)
    (channels,) = _sizes("out_channels", [out_channels])
    kh, kw = pair("kernel_size", kernel_size)
    sh, sw = pair("strides", strides)
    shape = ConvShape(
        batch=batch,
        height=height,
        width=width,
        in_channels=in_channels,
        out_channels=channels,
        kernel_size=(kh, kw),
        strides=(sh, sw),
        padding=resolve_padding(padding, (height, width), (kh, kw), (sh, sw)),
    )
    if min(shape.y_shape[1:3]) < 1:
        raise ValueError(
            f"`kernel_size` (={shape.kernel_size}) does not fit into the padded image: "
            f"H×W = {height}×{width}, `padding` (={padding})."
        )
    return shape


def resolve_padding(padding: Padding, size: Pair, kernel: Pair, strides: Pair) -> tuple[Pair, Pair]:
    """ "SAME", "VALID" or explicit pairs → ((lo, hi), (lo, hi)). SAME puts the odd row or column at the end."""
    if isinstance(padding, str):
        if padding.upper() == "VALID":
            return ((0, 0), (0, 0))
        if padding.upper() == "SAME":
            h, w = (_same(n, k, s) for n, k, s in zip(size, kernel, strides, strict=True))
            return (h, w)
    try:
        pairs = [] if isinstance(padding, str) else [tuple(map(index, side)) for side in padding]
    except TypeError:
        pairs = []
    if len(pairs) != 2 or any(len(p) != 2 or min(p) < 0 for p in pairs):
        raise ValueError(
            f"`padding` (={padding!r}) must be 'SAME', 'VALID' or two pairs of whole numbers that are not negative."
        )
    (h_lo, h_hi), (w_lo, w_hi) = pairs
    return ((h_lo, h_hi), (w_lo, w_hi))


def _same(size: int, kernel: int, stride: int) -> Pair:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return (total // 2, total - total // 2)


def _sizes(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """`values` as ints. ValueError for anything but whole numbers of at least 1."""
    numbers = _whole(values)
    if min(numbers, default=0) < 1:
        raise ValueError(f"`{name}` (={', '.join(map(str, values))}) must be of whole numbers of at least 1.")
    return numbers


def _whole(values: Sequence[int]) -> tuple[int, ...]:
    """`values` as ints; none, if one is no whole number."""
    try:
        return tuple(map(index, values))
    except TypeError:
        return ()


def pair(name: str, value: Sequence[int]) -> Pair:
    """`value` as two ints. ValueError for anything but two whole numbers of at least 1."""
    numbers = _whole(value)
    if len(numbers) != 2 or min(numbers) < 1:
        raise ValueError(f"`{name}` (={value!r}) must be two whole numbers of at least 1, such as (1, 1).")
    return (numbers[0], numbers[1])


def pieces(size: int, piece: int) -> list[tuple[int, int, int]]:
    """(first, size, how many) of the whole pieces of `size`, and of what is left."""
    whole, rest = divmod(size, piece)
    kinds = ((0, piece, whole), (whole * piece, rest, 1))
    return [kind for kind in kinds if kind[1] * kind[2]]
