"""Timing side by side: A B C B A C …, so that what the machine does meanwhile falls on all alike.

A ratio is that of medians, with a 95 % bootstrap interval. Where the times cannot say anything, the verdict is NOISY
and no claim is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

NOISY_SPREAD = 0.25
"""A quartile range above this share of the median is noise, unless the interval of the ratio is clear of 1."""
NOISY_WIDTH = 1.5
"""An interval whose ends differ by more than this factor is a claim only if 1 is further away than it is wide."""
SAME_WIDTH = 1.25
"""An interval that holds 1 has to be at least this narrow to be called SAME."""
FEWEST_ROUNDS = 6
"""The range of 5 samples holds the median less often than 95 times in 100; that of 6 does."""
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

    @property
    def milliseconds(self) -> list[float]:
        return [1e3 * seconds for seconds in self.seconds]

    def divided_by(self, calls: int) -> Times:
        """Of one call, where each sample is of so many."""
        return Times(tuple(seconds / calls for seconds in self.seconds))

    @classmethod
    def of_milliseconds(cls, samples: Sequence[float]) -> Times:
        return cls(tuple(sample / 1e3 for sample in samples))


@dataclass(frozen=True)
class Ratio:
    """Median time of `new` over that of `base`, with its 95 % interval."""

    value: float
    low: float
    high: float
    spread: float
    """The larger spread of the two."""
    rounds: int
    """Samples of each, of the one that has fewer."""

    @property
    def verdict(self) -> str:
        """FASTER or SLOWER where the interval lies on one side of 1, else SAME; NOISY where the times say little."""
        width, away = self.high / self.low, max(self.low, 1 / self.high)
        if self.rounds < FEWEST_ROUNDS or width > max(NOISY_WIDTH, away):
            return "NOISY"
        if self.high < 1:
            return "FASTER"
        if self.low > 1:
            return "SLOWER"
        return "NOISY" if self.spread > NOISY_SPREAD or width > SAME_WIDTH else "SAME"

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"verdict": self.verdict}


def interleaved(
    calls: Mapping[str, Callable[[], Any]], rounds: int, *, on_round: Callable[[], None] = lambda: None
) -> dict[str, Times]:
    """Time each call once a round, after a first round that does not count.

    A call must not return before its work is done. Before each sample comes the same call untimed: what the call before
    left in the caches is not this one's doing. Each round has an order of its own, drawn but always the same: whoever
    follows a call of a library whose threads wait for more by spinning, as PyTorch's do, finds fewer cores.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    rng = np.random.default_rng(0)
    for number in range(-1, rounds):
        for name in rng.permutation(list(calls)).tolist():
            calls[name]()
            start = time.perf_counter()
            calls[name]()
            if number >= 0:
                taken[name].append(time.perf_counter() - start)
        on_round()
    return {name: Times(tuple(seconds)) for name, seconds in taken.items()}


def ratio(new: Times, base: Times, *, together: bool = True) -> Ratio:
    """The ratio of medians of times that were taken in the same rounds; else, of two runs, not `together`."""
    value, low, high = interval(lambda new, base: new / base, new, base, together=together)
    return Ratio(value, low, high, max(new.spread, base.spread), min(len(new.seconds), len(base.seconds)))


def interval(statistic: Callable[..., Any], *samples: Times, together: bool = True) -> tuple[float, float, float]:
    """`statistic` of the medians, with its 95 % interval.

    `together`: the samples of one round belong together, so that rounds are resampled whole; otherwise each sample is
    resampled by itself.
    """
    rng = np.random.default_rng(0)
    arrays = [np.asarray(times.seconds) for times in samples]
    picks = [rng.integers(0, len(array), (_RESAMPLES, len(array))) for array in (arrays[:1] if together else arrays)]
    picks *= len(arrays) if together else 1
    medians = (np.median(array[pick], axis=1) for array, pick in zip(arrays, picks, strict=True))
    low, high = np.quantile(statistic(*medians), (0.025, 0.975))
    return float(statistic(*(np.median(array) for array in arrays))), float(low), float(high)
