"""Progressive resizing: in parts of a run the network sees smaller images, or larger ones.

A phase of the schedule has one size of the images, or that of the data where it says none. It is static like the
mask, and as pure a function of the step: a column at another size is another column, compiled like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

from approxtrain.schedule.phases import Phases, cut
from approxtrain.schedule.windows import Window, window_at

Sizes = tuple[int | None, ...]
"""Rows and columns of the images in each phase; None: as the data has them."""


def split(phases: Phases, windows: Sequence[Window]) -> tuple[Phases, Sizes]:
    """The same phases, cut where the size changes, and the size of each."""
    if not windows:
        return phases, (None,) * len(phases)
    parts = cut(phases, (step for window in windows for step in (window.begin, window.stop) if step is not None))
    return parts, tuple(window and window.value for window in (window_at(windows, first) for first, _ in parts))
