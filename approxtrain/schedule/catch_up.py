"""A weight that is skipped at some steps of a period is moved further at the others.

At an update that comes n steps after the last one, what the optimiser adds to the weight is added n times: a layer that
is trained at every second step then gets as far as one that is trained at each, along gradients that are as many steps
old (multirate training). Where a phase begins, it is taken for one that was always there.
"""

from __future__ import annotations

import numpy as np


def steps_since_update(updated: np.ndarray) -> np.ndarray:
    """Steps from the update before, of layers that are `updated` `[layers, period]` in a period that repeats; 1 where a
    layer is not."""
    layers, period = updated.shape
    since = np.ones((layers, period), int)
    for row, of_layer in zip(since, updated, strict=True):
        steps = np.flatnonzero(of_layer)
        if len(steps):
            row[steps] = (steps - np.roll(steps, 1) - 1) % period + 1
    return since
