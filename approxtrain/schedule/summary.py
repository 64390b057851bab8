"""The facts about a schedule that are known before it runs, behind its text, JSON and image."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from approxtrain.models import ConvLayer, Model
from approxtrain.schedule.config import ScheduleConfig
from approxtrain.schedule.cost import Cost, cost, layer_flops, phase_costs
from approxtrain.schedule.frozen_prefix import prefix
from approxtrain.schedule.load import Load, load
from approxtrain.schedule.replicas import columns, method_of
from approxtrain.schedule.schedule import Schedule
from approxtrain.schedule.seen import ALL, Seen
from approxtrain_kernels.by_replica import ByReplica
from approxtrain_kernels.method import Method

FULL = ("·", "#e4e4e4")
"""Letter and colour of an exact cell: the ground that the others stand out from."""


@dataclass(frozen=True)
class Key:
    """How a cell is drawn."""

    label: str
    letter: str
    colour: str

    @property
    def ink(self) -> str:
        """Black or white, whichever is easier to read on the colour."""
        red, green, blue = bytes.fromhex(self.colour[1:])
        return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else "#ffffff"


@dataclass(frozen=True)
class PhaseView:
    """A phase with its last step and the cost of one period."""

    first: int
    stop: int | None
    """The first step after the phase; None: it has no end."""
    mask: np.ndarray
    cost: Cost
    seen: Seen = ALL
    """Of the images."""

    @property
    def period(self) -> int:
        return self.mask.shape[1]

    @property
    def repeats(self) -> bool:
        return self.stop is None or self.stop - self.first > self.period

    def spans(self, limit: int) -> list[tuple[int, int]]:
        """First and last step of each drawn column: one step, or a run of equal ones if the period exceeds `limit`."""
        if self.period <= limit:
            return [(step, step) for step in range(self.period)]
        change = np.any(self.mask[:, 1:] != self.mask[:, :-1], axis=0)
        starts = [0, *(np.flatnonzero(change) + 1).tolist()]
        return list(zip(starts, [*(s - 1 for s in starts[1:]), self.period - 1], strict=True))


@dataclass(frozen=True)
class Summary:
    """A schedule together with the model and the run that it is for."""

    model: Model
    config: ScheduleConfig
    schedule: Schedule
    batch: int
    steps_per_epoch: int
    epochs: int
    replicas: int = 1
    """Devices that share each batch."""

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs

    @cached_property
    def phases(self) -> tuple[PhaseView, ...]:
        starts = [first for first, _ in self.schedule.phases]
        costs = phase_costs(self.schedule, self.model.layers, self.batch, self.resized)
        ends = [*starts[1:], None]
        return tuple(
            PhaseView(first, stop, self._drawn(mask), phase_cost, seen)
            for (first, mask), stop, phase_cost, seen in zip(
                self.schedule.phases, ends, costs, self.schedule.seen, strict=True
            )
        )

    def _drawn(self, mask: np.ndarray) -> np.ndarray:
        """A mask `[layer, step]` into `methods`."""
        cells = self.schedule.cells
        number = {method: index for index, method in enumerate(self.methods)}
        drawn = [[number[method_of(cell, cells)] for cell in column] for column in columns(mask)]
        return np.array(drawn, np.int64).reshape(mask.shape[-1], mask.shape[-2]).T

    @cached_property
    def methods(self) -> tuple[Method, ...]:
        """All that stand in a column: `schedule.cells`, and what replicas run that differ."""
        mixed = (method for column in self.schedule.columns for method in column if isinstance(method, ByReplica))
        return tuple(dict.fromkeys((*self.schedule.cells, *mixed)))

    def of_replica(self, replica: int) -> Summary:
        """The same of what one of the replicas runs."""
        return replace(self, schedule=self.schedule.of_replica(replica))

    @property
    def replica_groups(self) -> list[tuple[str, Summary]]:
        """Those of the replicas that differ, by the numbers of those that do not: "replicas 0, 2"."""
        alike: dict[Schedule, list[int]] = {}
        for replica in range(self.schedule.replicas):
            alike.setdefault(self.schedule.of_replica(replica), []).append(replica)
        return [
            (f"replica{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}", self.of_replica(numbers[0]))
            for numbers in alike.values()
        ]

    @cached_property
    def load(self) -> Load:
        """What each replica has to do over the run, and sends."""
        return load(self.schedule, self.model.layers, self.batch, self.steps, self.resized)

    @cached_property
    def resized(self) -> dict[int, tuple[ConvLayer, ...]]:
        """The layers for each other size of the images."""
        sizes = {seen.size for seen in self.schedule.seen}
        return {size: self.model.layers_at(size) for size in sizes if size is not None}

    @cached_property
    def run(self) -> Cost:
        """The cost of all epochs."""
        return self._cost(self.schedule)

    @cached_property
    def with_prefix(self) -> Cost:
        """The cost of all epochs if the schedule asks for its frozen prefix, as it may or may not."""
        return self._cost(replace(self.schedule, frozen_prefix=True))

    def _cost(self, schedule: Schedule) -> Cost:
        return cost(schedule, self.model.layers, self.batch, 0, self.steps, self.resized)

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        """One for each of `methods`, all letters different."""
        keys: list[Key] = []
        for number, method in enumerate(self.methods):
            same = sum(other.name == method.name for other in self.methods[:number])
            letter = FULL[0] if method.name == "full" else _letter(method, {key.letter for key in keys})
            keys.append(Key(method.label, letter, _colour(method, same)))
        return tuple(keys)

    def layer_shares(self) -> list[float]:
        """Share of the convolutions' FLOPs in one exact training step that each layer has."""
        flops = layer_flops(self.model.layers, self.batch)
        return [value / sum(flops) for value in flops]

    @cached_property
    def saves_nothing(self) -> list[dict[str, Any]]:
        """Methods of this run that are no faster than `full`: `method`, `device`, `why`, and the `layers`."""
        layers_by_reason: dict[tuple[str, str, str], list[int]] = {}
        visits = self.schedule.visits(0, self.steps)
        for layer, counts in zip(self.model.layers, visits.tolist(), strict=True):
            shape = replace(layer.shape, batch=self.batch)
            for method, count in zip(self.schedule.cells, counts, strict=True):
                for device, why in method.saves_nothing(shape).items() if count else ():
                    layers_by_reason.setdefault((method.label, device, why), []).append(layer.number)
        return [
            {"method": method, "device": device, "why": why, "layers": layers}
            for (method, device, why), layers in layers_by_reason.items()
        ]

    def when(self, phase: PhaseView) -> str:
        """The steps of a phase, and the epochs in which they lie."""
        begin = phase.first // self.steps_per_epoch + 1
        if phase.first >= self.steps:
            return f"from step {phase.first} (epoch {begin}): after the last step of this run"
        if phase.stop is None:
            return f"from step {phase.first} (epoch {begin})" if phase.first else "all steps"
        end = (phase.stop - 1) // self.steps_per_epoch + 1
        epochs = f"epoch {begin}" if begin == end else f"epochs {begin}-{end}"
        whole = phase.first % self.steps_per_epoch == 0 and phase.stop % self.steps_per_epoch == 0
        return f"steps {phase.first}-{phase.stop - 1} ({'' if whole else 'in '}{epochs})"

    def as_dict(self) -> dict[str, Any]:
        """All facts for JSON. Shares and speed-ups are fractions, a `grid` `[layer][step]` indexes `cells`, where
        replicas differ `[replica][layer][step]`; `frozen_prefix` has the
        length of the prefix in each of `columns`, and what the run costs with it, `on` or not."""
        return {
            "model": self.model.name,
            "schedule": self.config.title,
            "batch_size": self.batch,
            "steps_per_epoch": self.steps_per_epoch,
            "epochs": self.epochs,
            "dispatch": self.config.dispatch,
            "layers": [*map(_layer, self.model.layers, self.layer_shares())],
            "exact": self.model.found.exact,
            "cells": [
                {"method": m.name, "params": m.params, **asdict(key)}
                for m, key in zip(self.schedule.cells, self.keys[: len(self.schedule.cells)], strict=True)
            ],
            "cell_shares": self.schedule.shares(self.steps),
            "columns": [[method.label for method in column] for column in self.schedule.columns],
            "compiled_steps": len(self.schedule.columns),
            "phases": [
                {"first_step": p.first, "last_step": None if p.stop is None else p.stop - 1}
                | {
                    "period": p.period,
                    "image_size": p.seen.size,
                    "image_share": p.seen.share,
                    "grid": mask.tolist(),
                    "cost": _cost(p.cost),
                }
                for p, (_, mask) in zip(self.phases, self.schedule.phases, strict=True)
            ],
            "run_cost": _cost(self.run),
            "frozen_prefix": {
                "on": self.schedule.frozen_prefix,
                "layers": [prefix(column) for column in self.schedule.columns],
                "run_cost": _cost(self.with_prefix),
            },
            "saves_nothing": self.saves_nothing,
            "replicas": self.replicas,
            "load": asdict(self.load) | {"mean": self.load.mean},
        }


def describe_shape(layer: ConvLayer) -> str:
    """ "32×32×16→16 k3 s1": the input's H×W×C, output channels, kernel, stride."""
    shape = layer.shape
    size = f"{shape.height}×{shape.width}×{shape.in_channels}→{shape.out_channels}"
    return f"{size} k{shape.kernel_size[0]} s{layer.stride}"


def _letter(method: Method, taken: set[str]) -> str:
    """The method's initial; where it is taken the first digit that tells it apart, then any letter."""
    if isinstance(method, ByReplica):  # by the member that is not exact, in small
        other = method.members[-1][0].name
        return next((c for c in other + "abcdefghijklmnopqrstuvwxyz" if c not in taken), "?")
    digits = [c for c in method.label if c.isdigit()]
    rest = [c for c in method.name.upper() + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + method.name if c.isalpha()]
    return next((c for c in (method.name[0].upper(), *digits, *rest) if c not in taken), "?")


def _colour(method: Method, same: int) -> str:
    """The method's colour; darker for each other cell of the same method."""
    if method.name == "full":
        return FULL[1]
    rgb = bytes.fromhex(method.colour[1:])
    return "#" + "".join(f"{round(value * 0.62**same):02x}" for value in rgb)


def _layer(layer: ConvLayer, share: float) -> dict[str, Any]:
    shape = layer.shape
    return {
        "number": layer.number,
        "path": layer.path,
        "input": list(shape.x_shape[1:]),
        "output": list(shape.y_shape[1:]),
        "kernel": list(shape.kernel_size),
        "strides": list(shape.strides),
        "flops_share": share,
    }


def _cost(cost: Cost) -> dict[str, float]:
    shares = "wgrad_share_saved share_resized share_left_out dgrad_share_saved dgrad_share_replaced"
    derived = f"{shares} largest_speed_up speed_up_with_methods"
    return asdict(cost) | {name: getattr(cost, name) for name in derived.split()}
