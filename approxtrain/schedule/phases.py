"""From stamps to phases: the smallest list of periodic masks that says the same.

A phase is a first step f and a mask [layers, P]. It holds until the next phase begins, and step s has the
mask's column (s − f) mod P. The methods of a mask are numbers into a list of cells, of which 0 is `full`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np

from approxtrain.schedule.config import LARGEST
from approxtrain.schedule.stamps import Stamp
from approxtrain_kernels.method import Method
from approxtrain_kernels.methods import make

MAX_PERIOD = 100_000
"""Steps after which a mask must have repeated, so that the table on the device stays below a megabyte."""

Phases = tuple[tuple[int, np.ndarray], ...]


@dataclass(frozen=True)
class _Piece:
    """A mask that holds from `first` to before `stop`."""

    first: int
    stop: int | None
    mask: np.ndarray

    @property
    def period(self) -> int:
        return self.mask.shape[1]

    def steps(self, begin: int, count: int) -> np.ndarray:
        """The mask's columns at the steps begin, …, begin + count − 1, as if it held there."""
        return self.mask[:, (np.arange(begin, begin + count) - self.first) % self.period]


def phases_of(stamps: Sequence[Stamp], layers: int) -> tuple[tuple[Method, ...], Phases]:
    """The methods in order of first use, and the phases. ValueError if a period is too long to tabulate."""
    cells = list(dict.fromkeys([make("full"), *(stamp.method for stamp in stamps)]))
    borders = {0, *(s.begin for s in stamps), *(s.stop for s in stamps if s.stop is not None)}
    starts = sorted(border for border in borders if border <= LARGEST)  # no run comes to a later one
    merged: list[_Piece] = []
    for first, stop in zip(starts, [*starts[1:], None], strict=True):
        merged.append(_paint(first, stop, stamps, cells, layers))
        while len(merged) > 1 and (joined := _join(*merged[-2:])):
            merged[-2:] = [joined]
    return _only_used(cells, [(piece.first, piece.mask) for piece in merged])


def _paint(first: int, stop: int | None, stamps: Sequence[Stamp], cells: list[Method], layers: int) -> _Piece:
    """The mask between two borders, where every stamp applies throughout or not at all."""
    active = [stamp for stamp in stamps if stamp.spans(first)]
    period = lcm(*(stamp.every for stamp in active))
    length = period if stop is None else min(period, stop - first)
    if length > MAX_PERIOD:
        periods = ", ".join(str(every) for every in sorted({stamp.every for stamp in active}))
        raise ValueError(
            f"rules that repeat every {periods} steps repeat together only every {period:,} steps, and at "
            f"most {MAX_PERIOD:,} are tabulated. Choose values of `every` that divide each other, or bound "
            "the rules with `steps.stop` or `epochs`."
        )
    mask = np.zeros((layers, length), np.int16)
    for stamp in sorted(active, key=lambda s: s.order):
        mask[list(stamp.layers), stamp.next_use(first) - first :: stamp.every] = cells.index(stamp.method)
    if length == period:  # a phase that is shorter is left as it is
        divisors = (p for p in range(1, period + 1) if period % p == 0)
        mask = mask[:, : next(p for p in divisors if np.array_equal(mask[:, p:], mask[:, :-p]))]
    return _Piece(first, stop, mask)


def _join(a: _Piece, b: _Piece) -> _Piece | None:
    """One piece for two neighbours, where one of them, continued over the other's steps, says the same."""
    # Two periodic sequences that agree for the sum of their periods agree for ever (Fine and Wilf).
    enough = a.period + b.period
    count = enough if b.stop is None else min(b.stop - b.first, enough)
    if np.array_equal(a.steps(b.first, count), b.steps(b.first, count)):
        return _Piece(a.first, b.stop, a.mask)
    count = min(b.first - a.first, enough)
    if np.array_equal(a.steps(a.first, count), b.steps(a.first, count)):
        return _Piece(a.first, b.stop, b.steps(a.first, b.period))
    return None


def _only_used(cells: list[Method], phases: list[tuple[int, np.ndarray]]) -> tuple[tuple[Method, ...], Phases]:
    """Drop the cells that higher orders paint over, and number the others in order of first use."""
    seen = np.concatenate([[0], *(mask.T.ravel() for _, mask in phases)])
    values, first = np.unique(seen, return_index=True)
    used = values[np.argsort(first)]
    if len(used) > 127:
        raise ValueError(f"it uses {len(used)} different methods and parameters; a mask can hold 127.")
    number = np.zeros(len(cells), np.int8)
    number[used] = np.arange(len(used))
    return tuple(cells[i] for i in used), tuple((start, number[mask]) for start, mask in phases)
