"""What each replica computes and sends, where several share each batch.

All wait for the one that has most to do before they average, so a step is as long as the longest of them, and a method
that saves operations on some replicas only saves no time unless it moves round as others save as much elsewhere:

    T = Σ over steps of max over replicas of (forward + dgrads + weight gradients), in FLOPs of the convolutions

Sent are the weight gradients that some replica computes from its images, in float32, once a step; under local SGD
(`local.py`) nothing, or at an outer step all weights. What is sent for norms and biases, and with weights their moments
and statistics, is not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from approxtrain.models.layer import ConvLayer
from approxtrain.schedule.bypass import inside
from approxtrain.schedule.cost import dgrads_of, layer_flops
from approxtrain.schedule.schedule import Column, Schedule
from approxtrain.schedule.windows import Window
from approxtrain_kernels.by_replica import ByReplica


@dataclass(frozen=True)
class Load:
    """Means over the steps; the shares are of an exact step's FLOPs."""

    of_replica: tuple[float, ...]
    slowest: float
    """The mean over the steps of the largest of them."""
    bytes_sent: float
    """Of weight gradients, or of weights, by each replica and step."""
    bytes_exact: float
    """The same where every layer is exact."""

    @property
    def mean(self) -> float:
        return sum(self.of_replica) / len(self.of_replica)


def load(
    schedule: Schedule,
    layers: Sequence[ConvLayer],
    batch: int,
    stop: int,
    resized: Mapping[int, Sequence[ConvLayer]] | None = None,
) -> Load:
    """Of the steps 0 ≤ s < stop; `batch` and `resized` as of `cost`."""
    table = schedule.index_table
    pairs, of_entry = np.unique(np.stack([table.table, table.of_places]), axis=1, return_inverse=True)
    of_entry = of_entry.reshape(-1)
    visits, averaging = (np.zeros(pairs.shape[1], np.int64) for _ in range(2))
    np.add.at(visits, of_entry, schedule.entry_visits(0, stop))
    for first, end in _between(schedule.local.windows, stop):
        np.add.at(averaging, of_entry, schedule.entry_visits(first, end))
    shares = np.zeros((pairs.shape[1], schedule.replicas))
    sent = np.zeros(pairs.shape[1])
    exact = sum(layer_flops(layers, batch)) or 1  # of a network without a layer that a schedule can reach
    weights = [4 * prod(layer.shape.w_shape) for layer in layers]
    for pair, (number, of_places) in enumerate(pairs.T.tolist()):
        column, seen = schedule.columns[number], schedule.column_seen[number]
        sized, images = layers if seen.size is None else (resized or {})[seen.size], seen.count(batch)
        blocks = schedule.column_absent[number]
        flops = _flops(column, table.places[of_places], sized, images, blocks, frozen_prefix=schedule.frozen_prefix)
        shares[pair] = flops / exact
        sent[pair] = sum(count for count, method in zip(weights, column, strict=True) if not method.known_everywhere)
    of_replica = np.average(shares, axis=0, weights=visits)
    slowest = np.average(shares.max(1), weights=visits)
    bytes_sent = (sent @ averaging + sum(weights) * schedule.local.outer_steps(stop)) / stop
    return Load(tuple(of_replica.tolist()), float(slowest), float(bytes_sent), sum(weights))


def _between(windows: Sequence[Window], stop: int) -> Iterator[tuple[int, int]]:
    """The parts of the steps below `stop` that are in no window."""
    begin = 0
    for window in windows:
        if begin < min(window.begin, stop):
            yield begin, min(window.begin, stop)
        begin = stop if window.stop is None else window.stop
    if begin < stop:
        yield begin, stop


def _flops(
    column: Column,
    places: np.ndarray,
    layers: Sequence[ConvLayer],
    batch: int,
    blocks: Sequence[str],
    *,
    frozen_prefix: bool,
) -> np.ndarray:
    """FLOPs of a step of each replica, `[replicas]`."""
    total = np.zeros(places.shape[1])
    dgrads = dgrads_of(column, frozen_prefix=frozen_prefix)
    for layer, method, dgrad, of_replica in zip(layers, column, dgrads, places, strict=True):
        if inside(layer.path, blocks):
            continue
        shape = replace(layer.shape, batch=batch)
        methods = [member for member, _ in method.members] if isinstance(method, ByReplica) else [method]
        flops = np.array(
            [
                shape.flops
                + (shape.flops if one.name == "full" else one.flops(shape))
                + ((shape.flops if one.exact_dgrad else one.dgrad_flops(shape)) if dgrad == "needed" else 0)
                for one in methods
            ]
        )
        total += flops[of_replica]
    return total
