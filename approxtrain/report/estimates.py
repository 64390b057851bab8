"""What a few runs say: means with 95 % intervals, differences paired by seed, the noise of one accuracy; and how such
numbers are written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

NORMAL = 1.959964
"""Standard deviations to either side of the mean that hold 95 % of a normal distribution."""
NOTHING = "–"
"""Written where there is no number."""


class Estimate(NamedTuple):
    """The mean of `n` values with its 95 % interval: None of a single value, which has none."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def half_width(self) -> float | None:
        return None if self.high is None else self.high - self.mean


def estimate(values: Sequence[float]) -> Estimate | None:
    """Student's t interval of the mean; None of no value."""
    if not values:
        return None
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Estimate(mean, None, None, 1)
    half_width = t_quantile(n - 1) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half_width, mean + half_width, n)


def paired(values: Mapping[int, float], base: Mapping[int, float]) -> Estimate | None:
    """`values` − `base`, both given by seed, of the seeds that both have: what a seed's runs share drops out."""
    return estimate([values[seed] - base[seed] for seed in sorted(values.keys() & base.keys())])


def t_quantile(freedom: int) -> float:
    """Standard errors to either side of an estimate that hold it in 95 % of all cases, by Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


def binomial_sd(percent: float, images: int = 10_000) -> float:
    """Standard deviation, in points, of an accuracy counted on `images` images: 0.27 at 92 % on CIFAR-10's."""
    share = percent / 100
    return 100 * math.sqrt(share * (1 - share) / images)


def proportion(share: float, images: int) -> Estimate:
    """An accuracy, in percent, with the 95 % interval (Wilson's) of the images that it was counted on: unlike the
    binomial standard deviation it says something of all right and of none."""
    from scipy.stats import binomtest

    low, high = binomtest(round(share * images), images).proportion_ci(0.95, method="wilson")
    return Estimate(100 * share, 100 * low, 100 * high, images)


def counted(number: int, noun: str) -> str:
    """ "1 epoch", "3 epochs" """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def signed(value: float | None, digits: int = 2) -> str:
    """The number with a true minus sign, and with a plus where it is above nought."""
    if value is None:
        return NOTHING
    text = f"{value:+.{digits}f}"
    return (f"{0:.{digits}f}" if float(text) == 0 else text).replace("-", "−")


def interval(number: Estimate | None, *, sign: bool = False, digits: int = 2) -> str:
    """ "91.30 ± 0.21", or "91.30 (n = 1)" where a single value has no interval."""
    if number is None:
        return NOTHING
    half = " (n = 1)" if number.half_width is None else f" ± {number.half_width:.{digits}f}"
    return (signed(number.mean, digits) if sign else f"{number.mean:.{digits}f}") + half


def columns(numbers: Mapping[str, Estimate | None]) -> dict[str, float | int | None]:
    """Estimates in the columns of a CSV, four each."""
    found: dict[str, float | int | None] = {}
    for key, number in numbers.items():
        mean, low, high, n = number or (None, None, None, 0)
        found |= {key: mean, f"{key}_low": low, f"{key}_high": high, f"{key}_n": n}
    return found
