"""Parts of a run that have something of their own, besides the methods of the layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from approxtrain.schedule.ranges import EpochRange
from approxtrain.schedule.stamps import Calendar


class Window(NamedTuple):
    """The steps begin ≤ s < stop have this value."""

    begin: int
    stop: int | None
    value: float


def windows_of(
    key: str, entries: Sequence[tuple[float, EpochRange | None]], calendar: Calendar
) -> tuple[list[Window], list[str]]:
    """The steps of each value in the list `schedule.{key}`, in order, and what is wrong with them."""
    windows: list[Window] = []
    problems: list[str] = []
    for number, (value, epochs) in enumerate(entries):
        begin = calendar.begin(epochs.from_) if epochs else 0
        stop = None if epochs is None or epochs.to is None else calendar.end(epochs.to)
        if stop is not None and begin >= stop:
            problems.append(
                f"`schedule.{key}.{number}`: it covers no step: by its `epochs` it begins at {begin} and ends before "
                f"{stop}."
            )
        windows.append(Window(begin, stop, value))
    order = sorted(range(len(windows)), key=lambda number: windows[number].begin)
    for a, b in pairwise(order):
        stop = windows[a].stop
        if stop is None or stop > windows[b].begin:
            problems.append(
                f"`schedule.{key}.{b}`: it begins at step {windows[b].begin}, before `schedule.{key}.{a}` ends: let "
                "one end where the other begins."
            )
    return [windows[number] for number in order], problems


def window_at(windows: Sequence[Window], step: int) -> Window | None:
    """The one that a step is in."""
    inside = (each for each in windows if each.begin <= step and (each.stop is None or step < each.stop))
    return next(inside, None)
