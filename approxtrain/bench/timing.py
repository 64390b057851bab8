"""Timing side by side: A B C A B C …, so that what the machine does meanwhile falls on all alike.

A ratio is that of medians, with a 95 % bootstrap interval. Where the spread of the times is too large to say anything,
the verdict is NOISY and no claim is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

NOISY_SPREAD = 0.25
"""A quartile range above this share of the median is noise, unless the interval of the ratio is clear of 1."""
_RESAMPLES = 2000


@dataclass(frozen=True)
class Times:
    """Seconds a call, in the order they were taken."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float:
        """Quartile range over median."""
        low, high = np.quantile(self.seconds, (0.25, 0.75))
        return float((high - low) / self.median)


@dataclass(frozen=True)
class Ratio:
    """Median time of `new` over that of `base`, with its 95 % interval."""

    value: float
    low: float
    high: float
    spread: float
    """The larger spread of the two."""

    @property
    def verdict(self) -> str:
        """FASTER or SLOWER where the interval lies on one side of 1, else SAME; NOISY where the times say nothing."""
        if self.high < 1:
            return "FASTER"
        if self.low > 1:
            return "SLOWER"
        return "NOISY" if self.spread > NOISY_SPREAD else "SAME"


def interleaved(
    calls: Mapping[str, Callable[[], Any]],
    rounds: int,
    *,
    warm_up: int = 2,
    on_round: Callable[[], None] = lambda: None,
) -> dict[str, Times]:
    """Time each call once a round. A call must not return before its work is done."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(-warm_up, rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number >= 0:
                taken[name].append(time.perf_counter() - start)
        on_round()
    return {name: Times(tuple(seconds)) for name, seconds in taken.items()}


def ratio(new: Times, base: Times) -> Ratio:
    """The ratio of medians. The rounds are resampled whole, because the two times of a round belong together."""
    a, b = np.asarray(new.seconds), np.asarray(base.seconds)
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(a), (_RESAMPLES, len(a)))
    ratios = np.median(a[picks], axis=1) / np.median(b[picks], axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return Ratio(new.median / base.median, float(low), float(high), max(new.spread, base.spread))
