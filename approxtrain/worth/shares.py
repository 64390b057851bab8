"""From the losses of forks to shares of images: what `forks.py` measured, in the currency of exact training.

A fork ends after N steps of training in all, those of the run before it and its own, with its rate decayed. The exact
forks trace the loss L(N): fitted over all epochs as a parabola in ln N, and where there are forks after three epochs or
fewer, over those of the epoch alone as a line. Where the forks of a schedule end with the loss L' and exact ones of as
many steps with L, the schedule is where exact training is after N' steps,

    ln N' = ln N + (L' − L) / (dL / d ln N),

and its steps, the part u of the T steps of its forks, are worth the share

    w = 1 − (N − N') / (u T)

of the images: below nothing where exact steps would have had to make good what they spoilt. L' and L are of the same
seeds, each with its order of the images, so that most of their noise drops out. The 95 % interval is the jackknife's
over the seeds, with Student's t; that of a single seed is by the spread of the exact forks over theirs. A time saved of
1 − t is well spent only where w > t, since exact training on fewer images saves time as well; on the diagonal w = t it
is the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from approxtrain.report.estimates import t_quantile
from approxtrain.worth.fork_file import Fork


class Worth(NamedTuple):
    """A share of images, with its standard error."""

    value: float
    error: float | None = None
    """None where a single seed says nothing of it, or where without one of several there would be no worth."""
    freedom: int = 0
    """Degrees of freedom of the error."""
    by_loss: float = 1.0
    """The share of images that a unit of loss is."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of 95 %."""
        if self.error is None:
            return None
        reach = t_quantile(self.freedom) * self.error
        return self.value - reach, self.value + reach

    @property
    def text(self) -> str:
        interval = self.interval
        text = f"{self.value:.2f}" + (f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else "")
        return text.replace("-", "−")


def worth(fork: Fork, like: Fork, exact: Sequence[Fork]) -> Worth | None:
    """Of a schedule's fork; `like` is the exact one of as many steps, `exact` are those that trace the loss.

    None where exact forks did not gain by more steps there, so that there is nothing to measure by.
    """
    value = _share(fork, like, exact)
    if value is None:
        return None
    n, by_loss = len(fork.losses), fork.end / abs(_slope(exact, fork)) / (fork.until * fork.steps)
    if n == 1:
        of_loss, freedom = _spread(exact)
        return Worth(value, by_loss * of_loss if freedom else None, freedom, by_loss)
    without = [_share(fork, like, exact, left_out) for left_out in range(n)]
    known = [each for each in without if each is not None]
    error = math.sqrt((n - 1) / n * sum((each - np.mean(known)) ** 2 for each in known)) if len(known) == n else None
    return Worth(value, error, n - 1, by_loss)


def _share(fork: Fork, like: Fork, exact: Sequence[Fork], left_out: int | None = None) -> float | None:
    slope = _slope(exact, fork, left_out)
    if not slope < 0:
        return None
    excess = _mean(fork.losses, left_out) - _mean(like.losses, left_out)
    behind = fork.end * (1 - math.exp(min(excess / slope, 50.0)))
    return 1 - behind / (fork.until * fork.steps)


def _slope(exact: Sequence[Fork], fork: Fork, left_out: int | None = None) -> float:
    """dL / d ln N where the fork ends."""
    few = len({each.epoch for each in exact}) <= 3
    traced = [each for each in exact if each.epoch == fork.epoch] if few else exact
    ends, losses = np.log([each.end for each in traced]), [_mean(each.losses, left_out) for each in traced]
    return float(np.polyval(np.polyder(np.polyfit(ends, losses, 1 if few else 2)), math.log(fork.end)))


def _mean(losses: Sequence[float], left_out: int | None) -> float:
    return float(np.mean([loss for seed, loss in enumerate(losses) if seed != left_out]))


def _spread(exact: Sequence[Fork]) -> tuple[float, int]:
    """Standard error of the difference of two losses of one seed, if they had nothing in common, with its degrees of
    freedom. Exact forks after one epoch have a state and orders of the images in common: they count once."""
    freedom = sum({each.epoch: len(each.losses) - 1 for each in exact}.values())
    variances = [float(np.var(each.losses, ddof=1)) for each in exact if len(each.losses) > 1]
    return (math.sqrt(2 * float(np.mean(variances))), freedom) if freedom else (0.0, 0)


class Row(NamedTuple):
    """A schedule's forks after one epoch, or over all epochs (`epoch` None)."""

    arm: str
    epoch: int | None
    loss: float
    worth: Worth | None
    time: float
    """Of a step by the schedule, as a share of an exact one's."""

    def as_json(self) -> dict[str, Any]:
        return self._asdict() | {"worth": self.worth and self.worth._asdict()}


def rows(forks: Sequence[Fork], times: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """A row for each schedule and epoch, and one for each schedule over all epochs: the mean of what its forks are
    worth, with the standard error of that mean over the epochs. `times` has those of steps, by schedule and epoch."""
    exact = [fork for fork in forks if is_exact(fork.arm)]
    likes = {(fork.epoch, fork.steps): fork for fork in exact}
    found = []
    for fork in forks:
        like = likes.get((fork.epoch, fork.steps))
        if like and not is_exact(fork.arm):
            loss = float(np.mean(fork.losses))
            found.append(Row(fork.arm, fork.epoch, loss, worth(fork, like, exact), times[fork.arm][str(fork.epoch)]))
    arms = dict.fromkeys(row.arm for row in found)
    return found + [row for arm in arms if (row := _over_epochs([row for row in found if row.arm == arm]))]


def _over_epochs(found: Sequence[Row]) -> Row | None:
    values = [row.worth.value for row in found if row.worth is not None]
    if len(found) < 2 or not values:
        return None
    n, error = len(values), None
    if n > 1:
        error = float(np.std(values, ddof=1)) / math.sqrt(n)
    loss, time = (float(np.mean(each)) for each in zip(*((row.loss, row.time) for row in found), strict=True))
    return Row(found[0].arm, None, loss, Worth(float(np.mean(values)), error, n - 1), time)


def is_exact(arm: str) -> bool:
    return arm.startswith("exact, ")


def verdict(row: Row) -> str:
    """Held against exact training on fewer images, which takes as little time."""
    if row.worth is None:
        return "nothing to measure by: more images brought exact forks nothing"
    if row.worth.interval is None:
        return "not known: one seed, or one epoch, says nothing"
    low, high = row.worth.interval
    if low > row.time:
        return "better than fewer images"
    return "worse than fewer images" if high < row.time else "not told from fewer images"
