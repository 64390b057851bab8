"""The choice of a schedule: which options to use in which phases of a run, so that it costs the fewest images.

With λ_p the share of the run that phase p is, t_o the time of option o as a share of an exact step's, w_po its worth in
images there, y = 1 where it is used at every n-th of its steps, and t_l and w_pl those of the look at the images (1
where they are all seen as they are),

    time   Σ λ_p t_l (1 − Σ (1 − t_o) y / n)          images   Σ λ_p w_pl (1 − Σ (1 − w_po) y / n)

at most one option for a group of layers and one look in a phase; small images only where they were as small before, or
smaller, from the first phase on. Savings are held to add up over groups and to multiply with those of the look, which
no more than measuring the schedule that comes out can show. With a variable for each option under each look both are
linear: a mixed-integer program, solved by `scipy.optimize.milp`.

A worth is measured by few forks, and whoever chooses the best of many noisy numbers chooses the luckiest. So an
option's worths in the phases are drawn to their mean (`shrunk`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from approxtrain.errors import ConfigError
from approxtrain.report.estimates import NORMAL, t_quantile
from approxtrain.schedule import ScheduleConfig
from approxtrain.worth.fork_file import Fork
from approxtrain.worth.options import THINNED, Look, Option
from approxtrain.worth.shares import Worth, rows

BEGIN, END = 0.03, 0.80
"""Shares of the run before and after which every layer is exact: noise does the most harm in the first steps, and what
is approximated to the end is not made good."""


LEAST, MOST = -2.0, 2.0
"""What a worth is believed to be at least and at most: what lies outside is far from all that exact forks trace."""
UNKNOWN = 10.0
"""The standard error of a worth of which nothing is known."""


class Phase(NamedTuple):
    """A part of the run, in shares of it."""

    begin: float
    end: float


class Measured(NamedTuple):
    """An option or a look, with what it is worth in each phase."""

    option: Option | Look
    time: float
    """Of its steps, as a share of exact ones'."""
    worth: tuple[float, ...]
    error: tuple[float, ...]
    """Standard errors."""


def measured(
    options: Sequence[Option | Look], forks: Sequence[Fork], times: Mapping[str, Mapping[str, float]]
) -> list[Measured]:
    """What the forks say of each option, a phase for each epoch after which there are forks, in their order; `times`
    has those of steps, by arm and epoch. What is forked once, at the start, is held to be worth as much in each."""
    every = [row for row in rows(forks, times) if row.epoch is not None]
    if (empty := next((row.epoch for row in every if row.worth is None), None)) is not None:
        raise ConfigError(
            f"After epoch {empty}, exact forks of more images had no lower loss, so that there is nothing to measure "
            "by: give more --steps, more --forks, or more held-out images (data.holdout)."
        )
    phases, found = len({fork.epoch for fork in forks}), []
    for option in options:
        mine = [row for row in every if row.arm == option.arm.name]
        drawn, errors = shrunk(*_with_errors([row.worth for row in mine if row.worth]))
        if option.arm.begins:
            drawn, errors = drawn * phases, errors * phases
        found.append(Measured(option, float(np.mean([row.time for row in mine])), drawn, errors))
    return found


def _with_errors(worths: Sequence[Worth]) -> tuple[list[float], list[float]]:
    """Of one option, with standard errors that are to be read as of a normal distribution: that of the loss, pooled
    over all epochs since few seeds say little of it, in the share of images that it is after each."""
    of_loss = [None if each.error is None else each.error / each.by_loss for each in worths]
    freedom = sum(each.freedom for each in worths)
    # where nothing is known of one, it is as uncertain as a worth can be
    known = None if None in of_loss else math.sqrt(np.mean(np.square(np.array(of_loss, float))))
    wider = t_quantile(freedom) / NORMAL if freedom else 1.0
    errors = [UNKNOWN if known is None else wider * known * each.by_loss for each in worths]
    return [float(np.clip(each.value, LEAST, MOST)) for each in worths], errors


class Part(NamedTuple):
    """An option that is used in a phase, at every `thinned`-th of its steps, on images that are looked at like that; or
    a look by itself."""

    phase: int
    measured: Measured
    thinned: int = 1
    look: Measured | None = None

    @property
    def is_look(self) -> bool:
        return isinstance(self.measured.option, Look)


class Plan(NamedTuple):
    """What was chosen."""

    phases: tuple[Phase, ...]
    parts: tuple[Part, ...]

    @property
    def time(self) -> float:
        """Of the run, as a share of the exact one's."""
        return 1 - sum(self._share(part) * _saved(part) for part in self.parts)

    @property
    def images(self) -> float:
        """What the run is worth, as a share of the exact one."""
        return 1 - sum(self._share(part) * _lost(part) for part in self.parts)

    @property
    def error(self) -> float:
        """Standard error of `images`: errors of one option in several phases, drawn to one mean, are held to be one
        error, those of different options independent."""
        of_option: dict[str, float] = {}
        for part in self.parts:
            name = part.measured.option.name
            of_option[name] = of_option.get(name, 0.0) + self._share(part) * part.measured.error[part.phase]
        return math.hypot(*of_option.values())

    def _share(self, part: Part) -> float:
        return _length(self.phases[part.phase]) / part.thinned

    def schedule(self) -> ScheduleConfig:
        """As the `[schedule]` of a configuration; exact where nothing was chosen."""
        if not self.parts:
            return ScheduleConfig(name="full")
        table: dict[str, Any] = {}
        for part in self.parts:
            option, when = part.measured.option, {"epochs": _bounds(self.phases[part.phase])}
            found = (
                option.entries(**when) if isinstance(option, Look) else {"rules": [option.rule(part.thinned, **when)]}
            )
            for key, entries in found.items():
                table[key] = table.get(key, []) + entries
        if any(isinstance(option := part.measured.option, Option) and option.frozen for part in self.parts):
            table["frozen_prefix"] = True
        return ScheduleConfig.model_validate(table)


def _saved(part: Part) -> float:
    """Of the time of a phase whose steps all have the part."""
    return (part.look.time if part.look else 1.0) * (1 - part.measured.time)


def _lost(part: Part) -> float:
    """Of the images of such a phase."""
    seen = max(part.look.worth[part.phase], 0.0) if part.look else 1.0
    return seen * (1 - part.measured.worth[part.phase])


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

    parts = _parts(measured, len(phases))
    if not parts:
        return None
    share = np.array([_length(phases[part.phase]) / part.thinned for part in parts])
    cost, enough, least = program(share * [_lost(part) for part in parts], share * [_saved(part) for part in parts])
    once, bound = _limits(parts)
    limits = [LinearConstraint(once, ub=1), LinearConstraint(enough[None], lb=least)]
    if len(bound):
        limits.append(LinearConstraint(bound, ub=0))
    found = milp(cost, constraints=limits, integrality=np.ones(len(parts)), bounds=Bounds(0, 1))
    if found.x is None:
        return None
    chosen = tuple(part for part, used in zip(parts, found.x, strict=True) if used > 0.5)
    return Plan(tuple(phases), chosen)


def _parts(measured: Sequence[Measured], phases: int) -> list[Part]:
    """All that may be used: each look, and each option under each look and none."""
    fast = [each for each in measured if each.time < 1]
    looks = [each for each in fast if isinstance(each.option, Look)]
    options = [each for each in fast if isinstance(each.option, Option)]
    numbers = range(phases)
    alone = [Part(phase, look) for phase in numbers for look in looks]
    return alone + [
        Part(phase, option, thinned, look)
        for phase in numbers
        for option in options
        for thinned in THINNED
        for look in (None, *looks)
    ]


def _limits(parts: Sequence[Part]) -> tuple[np.ndarray, np.ndarray]:
    """Rows that come to 1 at most: one option for a group in a phase, one look in a phase, an option under no look not
    with one. And rows that come to 0 at most: an option under a look not without it, images of a size not without such
    or smaller ones in the phase before."""
    phase, is_look = (np.array(each) for each in zip(*((part.phase, part.is_look) for part in parts), strict=True))
    groups = [part.measured.option.groups if isinstance(part.measured.option, Option) else () for part in parts]
    size = np.array([_size(part) for part in parts])
    once = [is_look & (phase == number) for number in sorted(set(phase.tolist()))]
    for number, group in sorted({(part.phase, each) for part, of in zip(parts, groups, strict=True) for each in of}):
        once.append((phase == number) & np.array([group in of for of in groups]))
    bound = [
        (np.arange(len(parts)) == index).astype(int) - ((phase == phase[index] - 1) & (size <= size[index]))
        for index in np.flatnonzero((size < np.inf) & (phase > 0)).tolist()
    ]
    for index in np.flatnonzero(~is_look).tolist():
        itself, look = np.arange(len(parts)) == index, parts[index].look
        here = is_look & (phase == phase[index])
        if look is None:
            once.append(itself | here)
        else:
            bound.append(itself.astype(int) - (here & np.array([part.measured is look for part in parts])))
    return np.array(once, float), np.array(bound, float)


def _size(part: Part) -> float:
    """Of the images that it makes smaller; infinite where it makes none."""
    option = part.measured.option
    return (isinstance(option, Look) and option.seen.size) or math.inf
