"""One column of a schedule by itself: what a step of it takes can be timed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from approxtrain.schedule.frozen_prefix import prefix
from approxtrain.schedule.ranges import LARGEST
from approxtrain.schedule.schedule import Schedule
from approxtrain_kernels.methods import make


def alone(schedule: Schedule, index: int) -> Schedule:
    """The schedule whose every step has that entry of `columns`, looks at the images and leaves out blocks as it does.

    Equal columns of different schedules are equal schedules.
    """
    column, seen = schedule.columns[index], schedule.column_seen[index]
    cells = tuple(dict.fromkeys((make("full"), *column)))
    mask = np.array([[cells.index(method)] for method in column], np.int8)
    frozen = schedule.frozen_prefix and prefix(column) > 0
    only = Schedule(schedule.layers, cells, ((0, mask),), frozen, (seen,))
    return replace(only, bypass=tuple((block, LARGEST) for block in schedule.column_absent[index]))
