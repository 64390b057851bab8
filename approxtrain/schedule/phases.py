"""From stamps to phases: the smallest list of periodic masks that says the same.

A phase is a first step f and a mask [layers, P], or [replicas, layers, P] where replicas differ. It holds until the
next phase begins, and step s has the mask's column (s − f) mod P. The methods of a mask are numbers into a list of
cells, of which 0 is `full`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np

from approxtrain.schedule.ranges import LARGEST
from approxtrain.schedule.stamps import Stamp
from approxtrain_kernels.method import Method
from approxtrain_kernels.methods import make

MAX_STEPS = 100_000
"""Steps that are tabulated, those of all masks together, so that the table on the device stays below a megabyte; where
replicas differ those of all of them together, so that it stays below one for ten layers."""
MAX_OVERLAPS = 1_000_000
"""Stamps that are looked at, those of all phases together: a second or two."""

Phases = tuple[tuple[int, np.ndarray], ...]


@dataclass(frozen=True)
class _Piece:
    """A mask that holds from `first` to before `stop`."""

    first: int
    stop: int | None
    mask: np.ndarray

    @property
    def period(self) -> int:
        return self.mask.shape[-1]

    def steps(self, begin: int, count: int) -> np.ndarray:
        """The mask's columns at the steps begin, …, begin + count − 1, as if it held there."""
        return self.mask[..., (np.arange(begin, begin + count) - self.first) % self.period]


def phases_of(stamps: Sequence[Stamp], layers: int, replicas: int = 1) -> tuple[tuple[Method, ...], Phases]:
    """The methods in order of first use, and the phases. ValueError if there is too much to tabulate."""
    cells = list(dict.fromkeys([make("full"), *(stamp.method for stamp in stamps)]))
    number = {method: index for index, method in enumerate(cells)}
    merged: list[_Piece] = []
    replicas = replicas if any(stamp.choice.numbers != tuple(range(replicas)) for stamp in stamps) else 1
    left = most = MAX_STEPS // replicas
    for first, stop, active in _between_borders(stamps):
        length, repeats = _length(first, stop, active, left, most)
        left -= length
        mask = np.zeros((replicas, layers, length), np.int16)
        for stamp in active:
            begin = stamp.next_use(first)
            for use in range(begin, min(begin + stamp.period, first + length), stamp.every):
                chosen = stamp.replicas(use) if replicas > 1 else [0]
                mask[np.ix_(chosen, stamp.layers, range(use - first, length, stamp.period))] = number[stamp.method]
        mask = mask if replicas > 1 else mask[0]
        merged.append(_Piece(first, stop, _shortest(mask) if repeats else mask))
        while len(merged) > 1 and (joined := _join(*merged[-2:])):
            merged[-2:] = [joined]
    return _only_used(cells, [(piece.first, piece.mask) for piece in merged])


def _between_borders(stamps: Sequence[Stamp]) -> Iterator[tuple[int, int | None, list[Stamp]]]:
    """Where stamps begin or stop and where the next do, with those that apply between; the highest order is last."""
    ranked = sorted(stamps, key=lambda stamp: stamp.order)
    borders = {0, *(s.begin for s in stamps), *(s.stop for s in stamps if s.stop is not None)}
    starts = sorted(border for border in borders if border <= LARGEST)  # no run comes to a later one
    beginning: dict[int, list[int]] = {}
    for rank, stamp in enumerate(ranked):
        beginning.setdefault(stamp.begin, []).append(rank)
    active: list[int] = []
    looked_at = 0
    for first, stop in zip(starts, [*starts[1:], None], strict=True):
        active = [rank for rank in active if ranked[rank].spans(first)]
        active = sorted([*active, *(rank for rank in beginning.get(first, ()) if ranked[rank].spans(first))])
        looked_at += len(active)
        if looked_at > MAX_OVERLAPS:
            raise ValueError(
                f"its {len(stamps):,} rules begin and end within one another, so that more than {MAX_OVERLAPS:,} pairs "
                "of a rule and a phase would have to be looked at. Write fewer rules, of more layers or steps each."
            )
        yield first, stop, [ranked[rank] for rank in active]


def _length(first: int, stop: int | None, active: Sequence[Stamp], left: int, most: int) -> tuple[int, bool]:
    """Steps of the mask between two borders, and whether they are a period: else all, where those are fewer."""
    span, period, periods = None if stop is None else stop - first, 1, sorted({stamp.period for stamp in active})
    for every in periods:
        period = lcm(period, every)
        if period > max(left, span or 0):  # it only grows
            break
    length = period if span is None else min(period, span)
    if length > left:
        few = len(periods) <= 8
        listed = ", ".join(map(str, periods[:8])) + ("" if few else ", …")
        together = f"every {lcm(*periods):,} steps" if few else f"every {period:,} steps or more"
        raise ValueError(
            f"from step {first} on, rules that repeat every {listed} steps repeat together only {together}, and of "
            f"the {most:,} that are tabulated in all, {left:,} are left. Choose values of `every` that divide "
            "each other, or bound the rules with `steps.stop` or `epochs`."
        )
    return length, length == period


def _shortest(mask: np.ndarray) -> np.ndarray:
    """A mask that repeats, as far as it does so for the first time."""
    period = mask.shape[-1]
    divisors = (p for p in range(1, period + 1) if period % p == 0)
    return mask[..., : next(p for p in divisors if np.array_equal(mask[..., p:], mask[..., :-p]))]


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


def cut(phases: Phases, borders: Iterable[int]) -> Phases:
    """The same phases, of which one begins at each of `borders`."""
    starts = [first for first, _ in phases]
    found = []
    for border in sorted({*borders, *starts}):
        first, mask = phases[bisect_right(starts, border) - 1]
        found.append((border, np.roll(mask, -((border - first) % mask.shape[-1]), axis=-1)))
    return tuple(found)


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
