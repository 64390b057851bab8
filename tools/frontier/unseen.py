"""Twelve schedules of ResNet-20, bad ones among them, by which the prediction of `schedule-tune` is judged."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any, NamedTuple

from approxtrain.worth.options import Option

STAGES = ((2, 7), (8, 13), (14, 19))
"""Layers, but the first."""


class Use(NamedTuple):
    """An option in a part of the run, at every `thinned`-th of its steps."""

    option: Option
    begin: float = 0.0
    end: float = 1.0
    thinned: int = 1

    @property
    def share(self) -> float:
        """Of the run, as options are counted."""
        return (self.end - self.begin) / self.thinned

    @property
    def rule(self) -> str:
        bounds = {"from": self.begin or None, "to": self.end if self.end < 1 else None}
        epochs = {key: f"{100 * share:g}%" for key, share in bounds.items() if share}
        return inline(self.option.rule(self.thinned, **{"epochs": epochs} if epochs else {}))


def inline(value: Any) -> str:
    """As a table in a line of TOML."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {inline(each)}' for key, each in value.items())} }}"
    return json.dumps(value)


def stages(method: str, *which: int, begin: float = 0.0, end: float = 1.0, thinned: int = 1) -> tuple[Use, ...]:
    options = [Option(method, *STAGES[number - 1], (number - 1,)) for number in which]
    return tuple(Use(option, begin, end, thinned) for option in options)


def frozen(last: int, begin: float = 0.0, end: float = 1.0, thinned: int = 1) -> tuple[Use, ...]:
    groups = tuple(number for number, (first, _) in enumerate(STAGES) if first <= last)
    return (Use(Option("skip", 1, last, groups, every=2), begin, end, thinned),)


UNSEEN = {
    "pooled-early": stages("pooled", 1, 2, 3, end=0.4),
    "pooled-late": stages("pooled", 1, 2, 3, begin=0.5),
    "pooled-second": stages("pooled", 1, 2, 3, thinned=2),
    "zero-all": stages("zero", 1, 2, 3, begin=0.03, end=0.8),
    "zero-first": stages("zero", 1),
    "zero-last": stages("zero", 3, begin=0.03, end=0.8),
    "zero-second": stages("zero", 1, 2, 3, thinned=2),
    "prefix13": frozen(13, 0.03, 0.8),
    "prefix13-late": frozen(13, 0.5),
    "prefix7-fourth": frozen(7, thinned=2),
    "prefix-pooled": frozen(7, 0.03, 0.5) + stages("pooled", 2, 3, begin=0.03, end=0.5),
    "zero-pooled": stages("zero", 1, end=0.5) + stages("pooled", 3, begin=0.5),
}


def text(uses: tuple[Use, ...]) -> str:
    """Stages that are treated alike are named together."""
    parts = []
    for (_, begin, end, thinned), alike in groupby(uses, key=lambda use: (use.option.method, *use[1:])):
        first, *_ = members = [use.option for use in alike]
        every = {1: "", 2: ", every second step", 4: ", every fourth step"}[thinned * first.every]
        what = "frozen prefix" if first.frozen else f"`{first.method}`"
        when = "throughout" if (begin, end) == (0, 1) else f"{100 * begin:g} to {100 * end:g} %"
        parts.append(f"{what}, layers {first.first} to {members[-1].last}{every}, {when}")
    return "; ".join(parts)


def schedule(uses: tuple[Use, ...]) -> str:
    frozen_prefix = "frozen_prefix = true, " * any(use.option.frozen for use in uses)
    return f"{{ {frozen_prefix}rules = [{', '.join(use.rule for use in uses)}] }}"
