"""What a schedule can save, in floating-point operations of the convolutions.

A training step costs each convolution three passes of the same size: forward, dgrad (dx) and wgrad (dW). The
first one needs no dgrad: nothing asks for the gradient of the images. With FLOPs as the measure of time T,

    largest possible speed-up = 1 − T_method / T_full

where the wgrad of a replaced cell counts as nothing: no estimator can do better. A schedule that asks for its frozen
prefix (`frozen.py`) saves, besides, the dgrads of all layers from the second to the one above the prefix. Counting
what the methods compute themselves gives the second figure. All else (norms, linear layers, optimiser) is left out:
it would make both smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from approxtrain.models.description import ConvLayer
from approxtrain.schedule.frozen_prefix import prefix
from approxtrain.schedule.schedule import Schedule


@dataclass(frozen=True)
class Cost:
    """FLOPs summed over `steps` steps of one batch each."""

    steps: int
    dense: float
    """Forward, dgrad and wgrad of all convolutions, every wgrad exact."""
    wgrad: float
    """The part of `dense` that is wgrad."""
    replaced: float
    """The part of `wgrad` whose cells use another method than `full`."""
    spent: float
    """What the methods compute in these cells instead."""
    dgrad_saved: float = 0.0
    """The dgrads that the frozen prefix leaves out."""

    @property
    def wgrad_share_saved(self) -> float:
        return self.replaced / self.wgrad

    @property
    def largest_speed_up(self) -> float:
        """1 − T_method / T_full with the replaced wgrads free."""
        return (self.replaced + self.dgrad_saved) / self.dense

    @property
    def dgrad_share_saved(self) -> float:
        """What the frozen prefix saves, as a share of the whole step."""
        return self.dgrad_saved / self.dense

    @property
    def speed_up_with_methods(self) -> float:
        """1 − T_method / T_full with the methods' own FLOPs counted; negative where they compute more."""
        return (self.replaced + self.dgrad_saved - self.spent) / self.dense


def layer_flops(layers: Sequence[ConvLayer], batch: int) -> list[int]:
    """FLOPs of each layer in one exact training step: three passes, two for the first layer."""
    return [batch * layer.shape.flops * (2 if layer.number == 1 else 3) for layer in layers]


def cost(schedule: Schedule, layers: Sequence[ConvLayer], batch: int, first: int, stop: int) -> Cost:
    """The cost of the steps first ≤ s < stop."""
    if stop <= first:
        raise ValueError(f"`stop` (={stop}) must be above `first` (={first}): there is no step to average over.")
    if tuple(layer.path for layer in layers) != schedule.layers:
        raise ValueError("`layers` are not those that the schedule was made for.")
    visits = schedule.visits(first, stop)
    wgrad = replaced = spent = 0.0
    for layer, counts in zip(layers, visits.tolist(), strict=True):
        shape = replace(layer.shape, batch=batch)
        wgrad += shape.flops * (stop - first)
        replaced += shape.flops * sum(counts[1:])
        spent += sum(n * method.flops(shape) for n, method in zip(counts[1:], schedule.cells[1:], strict=True))
    dense = float(sum(layer_flops(layers, batch)) * (stop - first))
    return Cost(stop - first, dense, wgrad, replaced, spent, _dgrad_saved(schedule, layers, batch, first, stop))


def _dgrad_saved(schedule: Schedule, layers: Sequence[ConvLayer], batch: int, first: int, stop: int) -> float:
    """FLOPs of the dgrads that the frozen prefix leaves out in the steps first ≤ s < stop."""
    if not schedule.frozen_prefix:
        return 0.0
    flops = [batch * layer.shape.flops for layer in layers]
    # Layer 1 has no dgrad, and that of the layer above the prefix would go into it: layers 2 to prefix + 1.
    saved = [sum(flops[1 : prefix(column) + 1]) for column in schedule.columns]
    return float(sum(n * s for n, s in zip(schedule.column_visits(first, stop).tolist(), saved, strict=True)))


def phase_costs(schedule: Schedule, layers: Sequence[ConvLayer], batch: int) -> tuple[Cost, ...]:
    """For each phase the cost of one of its periods; the last is what a long run tends to."""
    return tuple(cost(schedule, layers, batch, first, first + mask.shape[1]) for first, mask in schedule.phases)
