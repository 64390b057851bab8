"""From the losses of forks to shares of images: what `forks.py` measured, in the currency of exact training.

With L(s) the mean loss after exact steps on the share s of the images, fitted as L = a + b·ln s, a schedule whose forks
end with the loss L' is worth

    w = exp((L' − a) / b)

of the images: its T steps bring what exact training brings in w·T steps. The 95 % interval is the jackknife's over the
seeds, with Student's t: the loss of each seed's forks is left out in turn. A time saved of 1 − t is well spent only
where w > t, since exact training on fewer images saves time as well; on the diagonal w = t it is the same. Of forks
that are by their schedule in the part u of their steps and exact in the rest, the steps of that part are worth
(w − (1 − u)) / u.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from approxtrain.report.estimates import t_quantile
from approxtrain.worth.forks import Fork


class Worth(NamedTuple):
    """A share of images, with its 95 % interval where there are several seeds."""

    value: float
    low: float | None
    high: float | None

    @property
    def text(self) -> str:
        return f"{self.value:.2f}" + ("" if self.low is None else f" ({self.low:.2f} to {self.high:.2f})")


def worth(exact: Mapping[float, Sequence[float]], losses: Sequence[float]) -> Worth | None:
    """Of forks with these losses, one a seed; `exact` has those by the share of the images.

    None where exact forks did not gain by more images, so that there is nothing to measure by.
    """
    every = list(range(len(losses)))
    value = _share(exact, losses, every)
    if value is None or len(every) < 2:
        return None if value is None else Worth(value, None, None)
    without = [_share(exact, losses, [seed for seed in every if seed != left_out]) for left_out in every]
    logs = [math.log(each) for each in without if each is not None]
    if len(logs) < len(every):
        return Worth(value, 0.0, math.inf)  # without one of the seeds it would be none: nothing is known
    n = len(logs)
    error = math.sqrt((n - 1) / n * sum((log - np.mean(logs)) ** 2 for log in logs))
    reach = math.exp(t_quantile(n - 1) * error)
    return Worth(value, value / reach, value * reach)


def _share(exact: Mapping[float, Sequence[float]], losses: Sequence[float], seeds: Sequence[int]) -> float | None:
    shares = sorted(exact)
    means = [float(np.mean([exact[share][seed] for seed in seeds])) for share in shares]
    slope, level = np.polyfit(np.log(shares), means, 1)
    if not slope < 0:
        return None
    return math.exp(min((float(np.mean([losses[seed] for seed in seeds])) - level) / slope, 50.0))


class Row(NamedTuple):
    """A schedule's forks after one epoch, or over all epochs (`epoch` None)."""

    arm: str
    epoch: int | None
    loss: float
    whole: Worth | None
    """Of all steps of the forks."""
    time: float
    """Of a step by the schedule, as a share of an exact one's."""
    until: float = 1.0
    """The part of the forks' steps that are by the schedule, u."""

    @property
    def worth(self) -> Worth | None:
        """Of the steps that are by the schedule; below nothing where the others had to make good what these spoilt."""
        if self.whole is None:
            return None

        def of_part(bound: float) -> float:
            return (bound - (1 - self.until)) / self.until

        value, *bounds = self.whole
        low, high = (None if bound is None else of_part(bound) for bound in bounds)
        return Worth(of_part(value), low, high)

    def as_json(self) -> dict[str, Any]:
        shares = {name: each and each._asdict() for name, each in (("whole", self.whole), ("worth", self.worth))}
        return self._asdict() | shares


def rows(forks: Sequence[Fork]) -> list[Row]:
    """A row for each schedule and epoch, and one for each schedule over all epochs: the geometric mean of what its
    forks are worth, with the interval of that mean over the epochs, and the median of its times."""
    found = [row for epoch in dict.fromkeys(fork.epoch for fork in forks) for row in _of_epoch(forks, epoch)]
    arms = dict.fromkeys(row.arm for row in found)
    return found + [row for arm in arms if (row := _over_epochs([row for row in found if row.arm == arm]))]


def _of_epoch(forks: Sequence[Fork], epoch: int) -> list[Row]:
    here = [fork for fork in forks if fork.epoch == epoch]
    exact = {fork.share: fork for fork in here if is_exact(fork.arm)}
    if 1.0 not in exact or len(exact) < 2:
        return []  # not all of them are done
    losses = {share: fork.losses for share, fork in exact.items()}
    return [
        Row(
            fork.arm,
            epoch,
            float(np.mean(fork.losses)),
            worth(losses, fork.losses),
            fork.step_ms / exact[1.0].step_ms,
            fork.until,
        )
        for fork in here
        if not is_exact(fork.arm)
    ]


def _over_epochs(found: Sequence[Row]) -> Row | None:
    known = [row.whole for row in found if row.whole is not None]
    if len(found) < 2 or not known:
        return None
    logs = np.log([each.value for each in known])
    mean = math.exp(float(np.mean(logs)))
    low = high = None
    if len(logs) > 1:
        reach = math.exp(t_quantile(len(logs) - 1) * float(np.std(logs, ddof=1)) / math.sqrt(len(logs)))
        low, high = mean / reach, mean * reach
    time = float(np.median([row.time for row in found]))
    loss = float(np.mean([row.loss for row in found]))
    return Row(found[0].arm, None, loss, Worth(mean, low, high), time, found[0].until)


def is_exact(arm: str) -> bool:
    return arm.startswith("exact, ")


def verdict(row: Row) -> str:
    """Held against exact training on fewer images, which takes as little time."""
    if row.worth is None:
        return "nothing to measure by: more images brought exact forks nothing"
    if row.worth.low is None or row.worth.high is None:
        return "one seed says nothing"
    if row.worth.low > row.time:
        return "better than fewer images"
    return "worse than fewer images" if row.worth.high < row.time else "not told from fewer images"
