"""What a few runs say: a mean with its 95 % interval, differences paired by seed, and the noise of one accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
NORMAL = 1.959964
"""Standard deviations to either side of the mean that hold 95 % of a normal distribution."""
TEST_IMAGES = 10_000
"""Images that one validation accuracy of CIFAR-10 is counted on."""


@dataclass(frozen=True)
class Estimate:
    """The mean of `n` values, and half the width of its 95 % interval: None of a single value, which has none."""

    mean: float
    half_width: float | None
    n: int

    @property
    def low(self) -> float | None:
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        return None if self.half_width is None else self.mean + self.half_width


def estimate(values: Sequence[float]) -> Estimate | None:
    """Student's t interval of the mean; None of no value."""
    if not values:
        return None
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Estimate(mean, None, 1)
    from scipy.special import stdtrit

    quantile = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))
    return Estimate(mean, quantile * float(np.std(values, ddof=1)) / math.sqrt(n), n)


def paired(own: Mapping[int, float], base: Mapping[int, float]) -> Estimate | None:
    """`own` − `base` of the seeds that both have, given by seed: what the seeds have in common drops out."""
    return estimate([own[seed] - base[seed] for seed in sorted(own.keys() & base.keys())])


def binomial_sd(percent: float, images: int = TEST_IMAGES) -> float:
    """Standard deviation, in points, of an accuracy counted on `images` images: 0.27 at 92 % on 10,000."""
    share = percent / 100
    return 100 * math.sqrt(share * (1 - share) / images)
