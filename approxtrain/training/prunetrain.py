"""PruneTrain: a penalty on whole channels while training, and channels that have become small are zero from then on.

    minimise  loss + λ Σ_g ‖w_g‖,     ‖w_g‖ = sqrt(Σ_{i in g} w_i² + 1e-8)
    λ = r / (1 - r) · loss / Σ_g ‖w_g‖     at the first step, so that the penalty is the share r of the sum; then kept
    w_g ← 0 for good   where at the end of an interval every |w_i| of g is below the threshold

The groups g are channels: of each layer's kernel `[Kh, Kw, Ci, Co]` the weights that read one input channel, and those
that make one output channel (`models/channels.py`).

Lym, Choukse, Zangeneh, Wen, Sanghavi, Erez: PruneTrain: Fast Neural Network Training by Dynamic Sparse Model
Reconfiguration, SC 2019 (arXiv:1901.09290). The penalty's gradient is a part of the gradient, as there; the 1e-8 is the
authors'. They then build a smaller network of the channels that are left. Here the network stays as it is, with zeros
in it: the same numbers come out of it, at the cost of all channels.

A layer that the schedule holds is looked at in the first step that moves it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from approxtrain.models.channels import INPUTS, OUTPUTS, Groups
from approxtrain.training.moved import by_path, like, parts

Tree = Any
EPSILON = 1e-8


class GroupLassoState(NamedTuple):
    steps: jax.Array  # int32
    coefficient: jax.Array  # λ, [1], because each seed has its own


class ChannelMasksState(NamedTuple):
    """The dicts are by the kernels' paths, so that `moved.hold` holds what is of a held one."""

    steps: jax.Array  # int32
    looked: dict[str, jax.Array]  # int32: how many intervals were over when the kernel was last looked at
    inputs: dict[str, jax.Array]  # bool [Ci]: which are left
    outputs: dict[str, jax.Array]  # bool [Co]


def group_lasso(groups: Groups, ratio: float) -> optax.GradientTransformationExtraArgs:
    """The first of a chain: adds the gradient of the penalty, λ w_i / ‖w_g‖ for each of the groups that w_i is in.

    `value` is the loss of the step.
    """

    def init(params: Tree) -> GroupLassoState:
        return GroupLassoState(jnp.int32(0), jnp.zeros(1))

    def update(
        updates: Tree, state: Any, params: Tree = None, *, value: jax.Array | None = None, **_: Any
    ) -> tuple[Tree, GroupLassoState]:
        if params is None or value is None:
            raise ValueError("`group_lasso` needs the parameters, and the loss as `value`: give both to `update`.")
        kernels, gradient = by_path(params), by_path(updates)
        norms = {name: [_norm(kernels[name], axis) for axis in axes] for name, axes in groups.items()}
        penalty = jnp.stack([norm.sum() for of_kernel in norms.values() for norm in of_kernel]).sum()
        begun = ratio / (1 - ratio) * value / penalty
        coefficient = jnp.where(state.steps == 0, begun, state.coefficient)
        for name, of_kernel in norms.items():
            for norm in of_kernel:
                gradient[name] += coefficient[0] * kernels[name] / norm
        return like(updates, gradient), GroupLassoState(state.steps + 1, coefficient)

    return optax.GradientTransformationExtraArgs(init, update)


def _norm(kernel: jax.Array, axis: int) -> jax.Array:
    """‖w_g‖ of each entry of the axis; the other axes have length 1."""
    return jnp.sqrt(jnp.square(kernel).sum(_others(kernel, axis), keepdims=True) + EPSILON)


def _others(kernel: jax.Array, axis: int) -> tuple[int, ...]:
    return tuple(other for other in range(kernel.ndim) if other != kernel.ndim + axis)


def channel_masks(groups: Groups, threshold: float, every: int) -> optax.GradientTransformationExtraArgs:
    """The last of a chain: makes channels zero whose weights are all below the threshold, at the end of each interval
    of `every` steps, and keeps them at zero."""

    def init(params: Tree) -> ChannelMasksState:
        kernels = by_path(params)

        def all_of(axis: int) -> dict[str, jax.Array]:
            return {name: jnp.ones(kernels[name].shape[axis], bool) for name, axes in groups.items() if axis in axes}

        never = {name: jnp.int32(0) for name in groups}
        return ChannelMasksState(jnp.int32(0), never, all_of(INPUTS), all_of(OUTPUTS))

    def update(updates: Tree, state: Any, params: Tree = None, **_: Any) -> tuple[Tree, ChannelMasksState]:
        if params is None:
            raise ValueError("`channel_masks` looks at the weights: give `update` the parameters.")
        kernels, moves = by_path(params), by_path(updates)
        steps, left = state.steps + 1, {INPUTS: dict(state.inputs), OUTPUTS: dict(state.outputs)}
        intervals = steps // every
        for name, axes in groups.items():
            due = intervals > state.looked[name]
            new = jnp.where(_mask(kernels[name], name, left), kernels[name] + moves[name], 0.0)
            for axis in axes:
                small = jnp.abs(new).max(_others(new, axis)) < threshold
                left[axis][name] &= ~(due & small)
            # w - w is zero to the bit
            moves[name] = jnp.where(_mask(new, name, left), moves[name], -kernels[name])
        looked = {name: intervals for name in groups}  # noqa: C420  (fromkeys has no type to speak of)
        return like(updates, moves), ChannelMasksState(steps, looked, left[INPUTS], left[OUTPUTS])

    return optax.GradientTransformationExtraArgs(init, update)


def _mask(kernel: jax.Array, name: str, left: Mapping[int, Mapping[str, jax.Array]]) -> jax.Array:
    """Which weights of a kernel are in no channel that was pruned."""
    mask = jnp.ones(kernel.shape, bool)
    if name in left[INPUTS]:
        mask &= left[INPUTS][name][:, None]
    return mask & left[OUTPUTS][name] if name in left[OUTPUTS] else mask


def pruned(params: Tree, opt_state: Tree) -> tuple[int, dict[str, list[int]]]:
    """How many channels there are that could be pruned; and of each seed how many were, and how many weights are in
    none of those. 0 and nothing where the optimiser has no masks.
    """
    if not (ours := parts(opt_state, ChannelMasksState)):
        return 0, {}
    (masks,) = ours
    kernels, found = by_path(params), {"channels_pruned": [], "weights_kept": []}
    flags = jax.tree.leaves((masks.inputs, masks.outputs))
    for seed in range(len(flags[0])):
        found["channels_pruned"].append(int(sum((~left[seed]).sum() for left in flags)))
        left = {
            axis: {name: left[seed] for name, left in of_axis.items()}
            for axis, of_axis in ((INPUTS, masks.inputs), (OUTPUTS, masks.outputs))
        }
        found["weights_kept"].append(int(sum(_mask(all_[seed], name, left).sum() for name, all_ in kernels.items())))
    return sum(left.shape[-1] for left in flags), found
