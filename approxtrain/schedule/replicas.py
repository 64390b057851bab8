"""The third axis of a schedule: which replicas a rule is for, and which of them runs what at a step.

Devices, or the processes of a cluster with theirs, share each batch, and each is a replica of the network, numbered
from 0. A mask of a schedule whose replicas differ is `[replica, layer, step]`, as static as any other. A column of it
has for each layer one method, or the set of those that some replica runs (`ByReplica`); its places say which replica
runs which. So steps that only pass the methods round are one column, and one program.
"""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

import numpy as np

from approxtrain.schedule.ranges import ReplicaRange
from approxtrain_kernels.by_replica import ByReplica
from approxtrain_kernels.method import Method

Cell = int | tuple[tuple[int, int], ...]
"""What the replicas run in one layer: the number of a method, or of each that some run, with how many do."""


class Choice(NamedTuple):
    """The replicas of a rule at its u-th use: each of `numbers`, moved on by u · rotate, modulo `of`."""

    numbers: tuple[int, ...]
    rotate: int
    of: int

    @property
    def period(self) -> int:
        """Uses after which the same replicas are chosen again."""
        return 1 if len(self.numbers) == self.of else self.of // gcd(self.rotate, self.of)

    def at(self, use: int) -> list[int]:
        return sorted((number + use * self.rotate) % self.of for number in self.numbers)


ALONE = Choice((0,), 0, 1)
MOST = 1024
"""Devices that rules may tell apart: two rules are compared at each step until their choices repeat."""


def choose(rule: ReplicaRange | None, where: str, replicas: int) -> tuple[Choice, list[str]]:
    """The replicas of a rule, of so many, and what is wrong with them."""
    everyone = Choice(tuple(range(replicas)), 0, replicas)
    if rule is None:
        return everyone, []
    if replicas == 1:
        return everyone, [
            f"`{where}.replicas`: they are devices that share each batch, and the run has one: say how many, such as "
            "parallel.devices=4, or leave it out."
        ]
    if replicas > MOST:
        return everyone, [f"`{where}.replicas`: rules for some of them go with {MOST:,} devices, and not {replicas:,}."]
    stop = replicas if rule.stop is None else rule.stop
    if beyond := [number for number, last in ((rule.start, replicas - 1), (stop, replicas)) if number > last]:
        return everyone, [
            f"`{where}.replicas`: {beyond[0]} is too many, for the run has {replicas} replicas, 0 to {replicas - 1} "
            "(`stop` is exclusive)."
        ]
    numbers = tuple(range(rule.start, stop, rule.every))
    wrong = [] if numbers else [f"`{where}.replicas`: there is none from {rule.start} on below {stop}."]
    return Choice(numbers, rule.rotate, replicas), wrong


def columns(mask: np.ndarray) -> list[tuple[Cell, ...]]:
    """What the replicas run in each layer, for each step of a mask `[layer, step]` or `[replica, layer, step]`."""
    if mask.ndim == 2:
        return [*map(tuple, mask.T.tolist())]
    distinct, of_step = np.unique(np.sort(mask, axis=0), axis=2, return_inverse=True)
    found = [tuple(map(_together, column)) for column in distinct.T]
    return [found[number] for number in of_step.reshape(-1).tolist()]


def _together(cells: np.ndarray) -> Cell:
    numbers, counts = np.unique(cells, return_counts=True)
    return int(numbers[0]) if len(numbers) == 1 else tuple(zip(numbers.tolist(), counts.tolist(), strict=True))


def method_of(cell: Cell, cells: tuple[Method, ...]) -> Method:
    """The method of a layer in a column."""
    return cells[cell] if isinstance(cell, int) else ByReplica(tuple((cells[number], count) for number, count in cell))


def places_of(mask: np.ndarray) -> np.ndarray:
    """Of a mask `[replica, layer, step]`, int8 `[step, layer, replica]`: which of the distinct methods of its layer,
    in the order of their numbers, a replica runs."""
    used = np.stack([(mask == number).any(0) for number in range(mask.max() + 1)])
    return np.take_along_axis(used.cumsum(0) - 1, mask.astype(int), 0).T.astype(np.int8)
