"""What a schedule can be put together from: a method in a group of layers, a frozen prefix of groups, a look at the
images.

A group is a run of layers with outputs of one size: the stages of a residual network, what lies between two poolings of
another. A prefix is measured at every second step, since layers that are never updated do not learn at all. What is
measured at every n-th step is held to save and to cost half of that at every 2n-th.

Smaller images begin a run, and grow: a network that has seen its own images already would have to get used to smaller
ones, and then to its own again. So they are forked before the first step alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple

from approxtrain.errors import ConfigError
from approxtrain.models import Model
from approxtrain.models.layer import ConvLayer
from approxtrain.schedule import ScheduleConfig
from approxtrain.schedule.seen import Seen
from approxtrain.worth.forks import Arm

THINNED = (1, 2, 4)
"""An option is used at each of the steps at which it was measured, at every second or every fourth of them."""


class Group(NamedTuple):
    """Layers `first` to `last`, counted from 1."""

    first: int
    last: int


class Option(NamedTuple):
    """A method in the layers `first` to `last`, which are of the `groups`, at every `every`-th step."""

    method: str
    first: int
    last: int
    groups: tuple[int, ...]
    every: int = 1

    @property
    def frozen(self) -> bool:
        """Whether it is a prefix, whose norms and biases stand still as well."""
        return self.method == "skip"

    @property
    def name(self) -> str:
        layers = f"layers {self.first} to {self.last}" if self.last > self.first else f"layer {self.first}"
        what = "frozen prefix" if self.frozen else self.method
        return f"{what}, {layers}" + (f", every {self.every}nd step" if self.every == 2 else "")

    def rule(self, thinned: int = 1, **conditions: Any) -> dict[str, Any]:
        """As a table of `schedule.rules`, for every `thinned`-th of its steps: the last ones of each period."""
        every = self.every * thinned
        steps = {"steps": {"start": every - 1, "every": every}} if every > 1 else {}
        layers = {"start": self.first, "stop": self.last}
        return {"method": self.method, "layers": layers, **steps, **conditions}

    @property
    def arm(self) -> Arm:
        config = {"rules": [self.rule()], "frozen_prefix": self.frozen}
        return Arm(self.name, ScheduleConfig.model_validate(config))


class Look(NamedTuple):
    """Smaller images, or a part of each batch."""

    seen: Seen

    @property
    def name(self) -> str:
        return self.seen.text

    def entries(self, **conditions: Any) -> dict[str, Any]:
        """As keys of `schedule`, each a list of one table."""
        size = {"image_sizes": [{"size": self.seen.size, **conditions}]} if self.seen.size else {}
        share = {"image_shares": [{"share": self.seen.share, **conditions}]} if self.seen.share < 1 else {}
        return size | share

    @property
    def arm(self) -> Arm:
        return replace(Arm.of(self.name, ScheduleConfig.model_validate(self.entries())), begins=self.resizes)

    @property
    def resizes(self) -> bool:
        return self.seen.size is not None


def groups_of(layers: Sequence[ConvLayer]) -> list[Group]:
    """Of neighbours whose outputs have one height and width."""
    found = []
    for _, members in groupby(layers, key=lambda layer: layer.shape.y_shape[1:3]):
        numbers = [layer.number for layer in members]
        found.append(Group(numbers[0], numbers[-1]))
    return found


def options_of(layers: Sequence[ConvLayer], methods: Sequence[str]) -> list[Option]:
    """Each method in each group, but in the first layer, which no method approximates; and each prefix but the whole
    network."""
    groups = groups_of(layers)
    inside = [(number, Group(max(group.first, 2), group.last)) for number, group in enumerate(groups)]
    approximated = [
        Option(method, group.first, group.last, (number,))
        for method in methods
        for number, group in inside
        if group.first <= group.last
    ]
    prefixes = [
        Option("skip", 1, group.last, tuple(range(number + 1)), every=2) for number, group in enumerate(groups[:-1])
    ]
    return [*approximated, *prefixes]


def looks_of(model: Model) -> list[Look]:
    """Images of three quarters and of half the size, where the network takes them, and half of each batch."""
    rows, columns, _ = model.image_shape
    sizes = [round(share * rows) for share in (0.75, 0.5)] if rows == columns else []
    return [*(Look(Seen(size)) for size in sizes if _takes(model, size)), Look(Seen(share=0.5))]


def _takes(model: Model, size: int) -> bool:
    try:
        model.layers_at(size)
    except ConfigError:
        return False
    return True
