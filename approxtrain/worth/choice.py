"""The choice of a schedule: which options to use in which phases of a run, so that it costs the fewest images.

With λ_p the share of the run that phase p is, t_o the time of option o as a share of an exact step's, w_po its worth in
images there, and y = 1 where it is used at every n-th of its steps,

    time   1 − Σ λ_p (1 − t_o) y / n          images   1 − Σ λ_p (1 − w_po) y / n

at most one option for a group of layers in a phase. Both are held to add up over groups, which no more than measuring
the schedule that comes out can show. It is a mixed-integer linear program, solved by `scipy.optimize.milp`.

A worth is measured by few forks, and whoever chooses the best of many noisy numbers chooses the luckiest. So an
option's worths in the phases are drawn to their mean (`shrunk`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from approxtrain.errors import ConfigError
from approxtrain.report.estimates import t_quantile
from approxtrain.schedule import ScheduleConfig
from approxtrain.worth.forks import Fork
from approxtrain.worth.options import THINNED, Option
from approxtrain.worth.shares import Worth, rows

BEGIN, END = 0.03, 0.80
"""Shares of the run before and after which every layer is exact: noise does the most harm in the first steps, and what
is approximated to the end is not made good."""


class Phase(NamedTuple):
    """A part of the run, in shares of it."""

    begin: float
    end: float


class Measured(NamedTuple):
    """An option, with what it is worth in each phase."""

    option: Option
    time: float
    """Of its steps, as a share of exact ones'."""
    worth: tuple[float, ...]
    error: tuple[float, ...]
    """Standard errors."""


def measured(options: Sequence[Option], forks: Sequence[Fork]) -> list[Measured]:
    """What the forks say of each option, a phase for each epoch after which there are forks, in their order."""
    found = [row for row in rows(forks) if row.epoch is not None]
    if (empty := next((row.epoch for row in found if row.worth is None), None)) is not None:
        raise ConfigError(
            f"After epoch {empty}, exact forks of all images were no better than those of half of them, so that there "
            "is nothing to measure by: give more --steps, more --forks, or more held-out images (data.holdout)."
        )
    if not options:
        return []
    seeds = len(forks[0].losses)
    of = {option: [row for row in found if row.arm == option.arm.name] for option in options}
    worths = np.array([[row.worth.value for row in each if row.worth] for each in of.values()])
    errors = np.array([[_error(row.worth, seeds) for row in each if row.worth] for each in of.values()])
    # Options of one epoch are held against the same exact forks, and have an error of few seeds each: theirs is pooled.
    pooled = np.sqrt(np.mean(np.square(errors), axis=0))
    return [
        Measured(option, float(np.median([row.time for row in each])), *shrunk(values.tolist(), pooled.tolist()))
        for (option, each), values in zip(of.items(), worths, strict=True)
    ]


def _error(worth: Worth, seeds: int) -> float:
    """Standard error: `shares.worth` gives the interval of the logarithm. At most 1, where nothing is known."""
    assert worth.high is not None, "one seed has no interval"
    return min(worth.value * float(np.log(worth.high / worth.value)) / t_quantile(seeds - 1), 1.0)


class Part(NamedTuple):
    """An option that is used in a phase, at every `thinned`-th of its steps."""

    phase: int
    measured: Measured
    thinned: int


class Plan(NamedTuple):
    """What was chosen."""

    phases: tuple[Phase, ...]
    parts: tuple[Part, ...]

    @property
    def time(self) -> float:
        """Of the run, as a share of the exact one's."""
        return 1 - sum(self._share(part) * (1 - part.measured.time) for part in self.parts)

    @property
    def images(self) -> float:
        """What the run is worth, as a share of the exact one."""
        return 1 - sum(self._share(part) * (1 - part.measured.worth[part.phase]) for part in self.parts)

    @property
    def error(self) -> float:
        """Standard error of `images`, as that of independent measurements."""
        return float(np.sqrt(sum((self._share(part) * part.measured.error[part.phase]) ** 2 for part in self.parts)))

    def _share(self, part: Part) -> float:
        return _length(self.phases[part.phase]) / part.thinned

    def schedule(self) -> ScheduleConfig:
        """As the `[schedule]` of a configuration; exact where nothing was chosen."""
        if not self.parts:
            return ScheduleConfig(name="full")
        rules = [
            part.measured.option.rule(part.thinned, epochs=_bounds(self.phases[part.phase])) for part in self.parts
        ]
        frozen = any(part.measured.option.frozen for part in self.parts)
        return ScheduleConfig.model_validate({"rules": rules, "frozen_prefix": frozen})


def _length(phase: Phase) -> float:
    return phase.end - phase.begin


def _bounds(phase: Phase) -> dict[str, str]:
    return {"from": f"{100 * phase.begin:.4g}%", "to": f"{100 * phase.end:.4g}%"}


def phases_around(shares: Sequence[float]) -> tuple[Phase, ...]:
    """A phase for each share of the run after which options are measured; they meet half-way."""
    inner = [(a + b) / 2 for a, b in pairwise(shares)]
    return tuple(Phase(a, b) for a, b in pairwise([BEGIN, *inner, END]))


def shrunk(worth: Sequence[float], error: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Worths in the phases, and their standard errors, each drawn to their mean by as much as its error outweighs the
    spread that errors do not explain (empirical Bayes; DerSimonian and Laird's estimate of that spread).

    None above 1: that a method is better than exact steps is not believed so easily.
    """
    values, variance = np.asarray(worth, float), np.maximum(np.square(error), 1e-12)
    weight = 1 / variance
    mean = float((weight * values).sum() / weight.sum())
    excess = float((weight * (values - mean) ** 2).sum()) - (len(values) - 1)
    spread = max(0.0, excess / float(weight.sum() - (weight**2).sum() / weight.sum())) if len(values) > 1 else 0.0
    own = spread / (spread + variance)
    drawn = np.minimum(own * values + (1 - own) * mean, 1)
    return tuple(drawn.tolist()), tuple(np.sqrt(own * variance + (1 - own) ** 2 / weight.sum()).tolist())


def cheapest(measured: Sequence[Measured], phases: Sequence[Phase], time: float) -> Plan | None:
    """The plan that takes at most `time` and is worth the most images; None where no plan is so fast."""
    return _solve(measured, phases, lambda lost, saved: (lost, saved, 1 - time))


def fastest(measured: Sequence[Measured], phases: Sequence[Phase], images: float) -> Plan:
    """The plan that is worth at least the share `images` and takes the least time; exact where nothing else is."""
    return _solve(measured, phases, lambda lost, saved: (-saved, -lost, images - 1)) or Plan(tuple(phases), ())


Shares = np.ndarray
"""Of the run, for each part that may be used: images lost, time saved."""
Program = tuple[Shares, Shares, float]
"""Minimise the sum of the first over the parts that are used, with that of the second at least the third."""


def _solve(
    measured: Sequence[Measured], phases: Sequence[Phase], program: Callable[[Shares, Shares], Program]
) -> Plan | None:
    from scipy.optimize import Bounds, LinearConstraint, milp

    parts = [Part(p, each, n) for p in range(len(phases)) for each in measured for n in THINNED if each.time < 1]
    if not parts:
        return None
    share = np.array([_length(phases[part.phase]) / part.thinned for part in parts])
    lost = share * [1 - part.measured.worth[part.phase] for part in parts]
    saved = share * [1 - part.measured.time for part in parts]
    cost, enough, least = program(lost, saved)
    places = sorted({(part.phase, group) for part in parts for group in part.measured.option.groups})
    taken = [
        [part.phase == phase and group in part.measured.option.groups for part in parts] for phase, group in places
    ]
    limits = [LinearConstraint(np.array(taken, float), ub=1), LinearConstraint(enough[None], lb=least)]
    found = milp(cost, constraints=limits, integrality=np.ones(len(parts)), bounds=Bounds(0, 1))
    if found.x is None:
        return None
    chosen = tuple(part for part, used in zip(parts, found.x, strict=True) if used > 0.5)
    return Plan(tuple(phases), chosen)
