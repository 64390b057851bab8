"""What a schedule can save, in floating-point operations of the convolutions.

A training step costs each convolution three passes of the same size: forward, dgrad (dx) and wgrad (dW). The
first one needs no dgrad: nothing asks for the gradient of the images. With FLOPs as the measure of time T,

    largest possible speed-up = 1 − T_method / T_full

where what a method replaces counts as nothing: the wgrad of every cell but `full`, the dgrad where it is approximated.
A frozen prefix (`frozen_prefix.py`) leaves out the dgrads from the second layer to the one above it, whatever their
methods. Smaller and fewer images (`seen.py`) make all three passes cheaper, and blocks that are left out (`bypass.py`)
have none. That is `largest_speed_up`;
`speed_up_with_methods` counts what the methods compute as well. Norms, linear
layers and the optimiser would make both smaller. Where replicas differ all of these are means over them; what each
has to do, and how long the others wait for the slowest, is in `load.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from approxtrain.models.layer import ConvLayer
from approxtrain.schedule.bypass import inside
from approxtrain.schedule.frozen_prefix import prefix
from approxtrain.schedule.schedule import Schedule
from approxtrain_kernels.by_replica import ByReplica
from approxtrain_kernels.method import Method


@dataclass(frozen=True)
class Cost:
    """FLOPs summed over `steps` steps of one batch each."""

    steps: int
    dense: float
    """Forward, dgrad and wgrad of all convolutions, all exact."""
    wgrad: float
    """The part of `dense` that is wgrad."""
    replaced: float
    """The part of `wgrad` whose cells use another method than `full`."""
    spent: float
    """What the methods compute instead of the wgrads and dgrads that they replace."""
    dgrad_saved: float = 0.0
    """The dgrads that the frozen prefix leaves out."""
    dgrad_replaced: float = 0.0
    """The dgrads that methods approximate."""
    resized: float = 0.0
    """What an exact step costs less on fewer images, or of other sizes than the data's (more, where it is negative)."""
    left_out: float = 0.0
    """All three passes of the blocks that are left out."""

    @property
    def saved(self) -> float:
        """Everything exact that is not computed."""
        return self.replaced + self.dgrad_saved + self.dgrad_replaced + self.resized + self.left_out

    @property
    def wgrad_share_saved(self) -> float:
        return _share(self.replaced, self.wgrad)

    @property
    def largest_speed_up(self) -> float:
        """1 − T_method / T_full with everything that is replaced free."""
        return _share(self.saved, self.dense)

    @property
    def share_resized(self) -> float:
        """What fewer images and other sizes save, as a share of the whole step."""
        return _share(self.resized, self.dense)

    @property
    def share_left_out(self) -> float:
        """What blocks that are left out save, as a share of the whole step."""
        return _share(self.left_out, self.dense)

    @property
    def dgrad_share_saved(self) -> float:
        """What the frozen prefix saves, as a share of the whole step."""
        return _share(self.dgrad_saved, self.dense)

    @property
    def dgrad_share_replaced(self) -> float:
        """The dgrads that methods approximate, as a share of the whole step."""
        return _share(self.dgrad_replaced, self.dense)

    @property
    def speed_up_with_methods(self) -> float:
        """1 − T_method / T_full with the methods' own FLOPs counted; negative where they compute more."""
        return _share(self.saved - self.spent, self.dense)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0  # a network without a convolution that a schedule can reach


def layer_flops(layers: Sequence[ConvLayer], batch: int) -> list[int]:
    """FLOPs of each layer in one exact training step: three passes, two for the first layer."""
    return [batch * layer.shape.flops * (2 if layer.number == 1 else 3) for layer in layers]


def cost(
    schedule: Schedule,
    layers: Sequence[ConvLayer],
    batch: int,
    first: int,
    stop: int,
    resized: Mapping[int, Sequence[ConvLayer]] | None = None,
) -> Cost:
    """The cost of the steps first ≤ s < stop; `resized` has the layers for each size of images in the schedule."""
    if stop <= first:
        raise ValueError(f"`stop` (={stop}) must be above `first` (={first}): there is no step to average over.")
    if tuple(layer.path for layer in layers) != schedule.layers:
        raise ValueError("`layers` are not those that the schedule was made for.")
    replaced = spent = dgrad_saved = dgrad_replaced = exact = left_out = 0.0
    visits = schedule.column_visits(first, stop).tolist()
    of_columns = zip(schedule.columns, schedule.column_seen, schedule.column_absent, visits, strict=True)
    for column, seen, blocks, steps in of_columns:
        sized, images = layers if seen.size is None else (resized or {})[seen.size], seen.count(batch)
        of_layers = layer_flops(sized, images)
        exact += steps * sum(of_layers)
        dgrads = dgrads_of(column, frozen_prefix=schedule.frozen_prefix)
        for layer, method, dgrad, flops in zip(sized, column, dgrads, of_layers, strict=True):
            if inside(layer.path, blocks):
                left_out += steps * flops
                continue
            shape = replace(layer.shape, batch=images)
            for one, share in shares_of(method):
                if one.name != "full":
                    replaced += steps * share * shape.flops
                    spent += steps * share * one.flops(shape)
                if dgrad == "needed" and not one.exact_dgrad:
                    dgrad_replaced += steps * share * shape.flops
                    spent += steps * share * one.dgrad_flops(shape)
            dgrad_saved += steps * shape.flops if dgrad == "saved" else 0
    dense = float(sum(layer_flops(layers, batch)) * (stop - first))
    wgrad = float(sum(batch * layer.shape.flops for layer in layers) * (stop - first))
    return Cost(stop - first, dense, wgrad, replaced, spent, dgrad_saved, dgrad_replaced, dense - exact, left_out)


def dgrads_of(column: Sequence[Method], *, frozen_prefix: bool) -> list[str]:
    """Of each layer whether its dgrad is "needed", "saved" by the frozen prefix, or "none", as of the first."""
    # The dgrad of the layer above the prefix would go into the prefix, where nobody reads it.
    without = prefix(column) + 1 if frozen_prefix else 1
    numbers = range(1, len(column) + 1)
    return ["none" if number == 1 else "saved" if number <= without else "needed" for number in numbers]


def shares_of(method: Method) -> list[tuple[Method, float]]:
    """The methods of a layer, each with its share of the replicas."""
    if not isinstance(method, ByReplica):
        return [(method, 1)]
    return [(member, count / method.replicas) for member, count in method.members]


def phase_costs(
    schedule: Schedule,
    layers: Sequence[ConvLayer],
    batch: int,
    resized: Mapping[int, Sequence[ConvLayer]] | None = None,
) -> tuple[Cost, ...]:
    """For each phase the cost of one of its periods; the last is what a long run tends to."""
    return tuple(
        cost(schedule, layers, batch, first, first + mask.shape[-1], resized) for first, mask in schedule.phases
    )
