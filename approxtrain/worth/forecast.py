"""From a share of images to accuracy: what exact forks of a short run tell of a longer one.

The exact forks end with their rate decayed, after N steps of exact training in all, and so does the exact run itself:
a trace of the error over images, for which a power law is fitted,

    error = C · N^(−b),

to the run's end and to the forks that end after a quarter of it, for in its beginning the error falls more slowly. A
schedule worth the share s of the images is then expected to end with the error of exact training on s·N images, s^(−b)
times the exact one's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from approxtrain.report.estimates import NORMAL, t_quantile
from approxtrain.worth.fork_file import Fork
from approxtrain.worth.shares import is_exact


class Drop(NamedTuple):
    """Points of accuracy below the exact run, with their 95 % interval."""

    points: float
    low: float
    high: float

    @property
    def text(self) -> str:
        return f"{-self.points:+.2f} points ({-self.high:+.2f} to {-self.low:+.2f})".replace("-", "−")


LEAST = 0.01
"""Share of the images: below, a power law says nothing."""


class Trace(NamedTuple):
    """The error of exact training over images."""

    slope: float
    """b"""
    slope_error: float
    error: float
    """Of the exact run of the length that is asked for, in percent."""

    def drop(self, images: float, standard_error: float) -> Drop:
        """Of what is worth that share of the images."""
        images = max(images, LEAST)
        ratio = images**-self.slope
        points = self.error * (ratio - 1)
        by_images = self.error * ratio * self.slope / images * standard_error
        by_slope = self.error * ratio * math.log(images) * self.slope_error
        reach = NORMAL * math.hypot(by_images, by_slope)
        return Drop(points, points - reach, points + reach)

    def images(self, points: float) -> float:
        """The share of the images that costs so many points."""
        return (1 + points / self.error) ** (-1 / self.slope)


def trace(forks: Sequence[Fork], end: tuple[int, float], longer: float) -> Trace | None:
    """Of a run `longer` times as long as the exact one that was forked, which had `end` = (steps, accuracy in percent).

    None where more images brought no less error, so that there is nothing to predict by.
    """
    exact = [fork for fork in forks if is_exact(fork.arm) and fork.end > end[0] / 4]
    accuracies = [*(100 * float(np.mean(fork.accuracies)) for fork in exact), end[1]]
    steps, errors = np.log([*(fork.end for fork in exact), end[0]]), np.log([max(100 - a, 0.01) for a in accuracies])
    if len(steps) < 3:
        return None
    slope, level = np.polyfit(steps, errors, 1)
    residuals = errors - slope * steps - level
    freedom = len(steps) - 2
    spread = math.sqrt(float(residuals @ residuals) / freedom / float(((steps - steps.mean()) ** 2).sum()))
    if not slope < 0:
        return None
    run_error = max(100 - end[1], 0.01) * longer**slope
    return Trace(-float(slope), t_quantile(freedom) / NORMAL * spread, run_error)
