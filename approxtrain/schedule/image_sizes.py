"""Progressive resizing: in parts of a run the network sees smaller images, or larger ones.

A phase of the schedule has one size of the images, or that of the data where it says none. It is static like the
mask, and as pure a function of the step: a column at another size is another column, compiled like any other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from approxtrain.schedule.config import ImageSize
from approxtrain.schedule.phases import Phases
from approxtrain.schedule.stamps import Calendar

Sizes = tuple[int | None, ...]
"""Rows and columns of the images in each phase; None: as the data has them."""


class Window(NamedTuple):
    """The steps begin ≤ s < stop have images of this size."""

    begin: int
    stop: int | None
    size: int


def windows_of(config: Sequence[ImageSize], calendar: Calendar) -> tuple[list[Window], list[str]]:
    """The steps of each entry, in order, and what is wrong with them."""
    windows: list[Window] = []
    problems: list[str] = []
    for number, entry in enumerate(config):
        where, epochs = f"schedule.image_sizes.{number}", entry.epochs
        begin = calendar.begin(epochs.from_) if epochs else 0
        stop = None if epochs is None or epochs.to is None else calendar.end(epochs.to)
        if stop is not None and begin >= stop:
            problems.append(
                f"`{where}`: it covers no step: by its `epochs` it begins at {begin} and ends before {stop}."
            )
        windows.append(Window(begin, stop, entry.size))
    order = sorted(range(len(windows)), key=lambda number: windows[number].begin)
    for a, b in pairwise(order):
        stop = windows[a].stop
        if stop is None or stop > windows[b].begin:
            problems.append(
                f"`schedule.image_sizes.{b}`: it begins at step {windows[b].begin}, before "
                f"`schedule.image_sizes.{a}` ends: let one end where the other begins."
            )
    return [windows[number] for number in order], problems


def split(phases: Phases, windows: Sequence[Window]) -> tuple[Phases, Sizes]:
    """The same phases, cut where the size changes, and the size of each."""
    if not windows:
        return phases, (None,) * len(phases)
    borders = {step for window in windows for step in (window.begin, window.stop) if step is not None}
    starts = [first for first, _ in phases]
    cut = []
    for border in sorted(borders | {*starts}):
        first, mask = phases[bisect_right(starts, border) - 1]
        cut.append((border, np.roll(mask, -((border - first) % mask.shape[-1]), axis=-1)))
    return tuple(cut), tuple(_size_at(windows, first) for first, _ in cut)


def _size_at(windows: Sequence[Window], step: int) -> int | None:
    spans = (window.size for window in windows if window.begin <= step and (window.stop is None or step < window.stop))
    return next(spans, None)
