"""What an arm's accuracy is held against: the whole exact run, and exact training of the arm's own time."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

from scipy.interpolate import make_interp_spline

from tools import arms
from tools.frontier import times
from tools.frontier.families import FAMILIES, LINE, WHOLE


class Line(NamedTuple):
    """Through points, straight between neighbours and beyond the outer ones."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __call__(self, x: float) -> float:
        return float(make_interp_spline(self.x, self.y, k=1)(x))

    @property
    def rises(self) -> bool:
        return all(a < b for a, b in pairwise(self.y))

    def inverse(self, y: float) -> float:
        return Line(self.y, self.x)(y)


def accuracies(network: str, name: str) -> dict[int, float]:
    """Seed → accuracy on the held-out images at the end, in percent."""
    return arms.accuracies(times.RESULTS, f"{network}/{name}")


def exact_lines(network: str) -> dict[int, Line]:
    """Seed → accuracy of exact training over the logarithm of its epochs, by the two or three runs that it has."""
    of_seeds: dict[int, list[tuple[float, float]]] = {}
    for name in LINE:
        for seed, accuracy in accuracies(network, name).items():
            of_seeds.setdefault(seed, []).append((math.log(FAMILIES[network].arms[name].epochs), accuracy))
    return {seed: Line(*zip(*points, strict=True)) for seed, points in of_seeds.items() if len(points) > 1}


def at_equal_time(network: str, name: str) -> dict[int, float]:
    """Seed → accuracy of exact training whose epochs take as long as this arm, by the lines."""
    return {seed: line(math.log(_epochs(network, name))) for seed, line in exact_lines(network).items()}


def of_time_to_equal_accuracy(network: str, name: str) -> dict[int, float]:
    """Seed → time of this arm over that of exact training which ends as accurate, by the same lines; not of a seed
    whose longer exact runs were not the more accurate ones."""
    found = accuracies(network, name)
    lines = {seed: line for seed, line in exact_lines(network).items() if seed in found and line.rises}
    return {seed: _epochs(network, name) / math.exp(line.inverse(found[seed])) for seed, line in lines.items()}


def _epochs(network: str, name: str) -> float:
    """Of exact training in the time of this arm."""
    share = times.share_of_time(network, name)
    assert share
    return FAMILIES[network].arms[WHOLE].epochs * share.value
