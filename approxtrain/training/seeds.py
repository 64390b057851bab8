"""Several seeds in one program: what each has of its own along a leading axis, and the step that they share.

A step of one small network leaves most of a large device idle, and its time is that of many short kernels, not of
arithmetic. The same step of several networks, which differ in nothing but their seed, has as many kernels and more for
each to do. There are two forms of its forward and backward pass (`train.seeds_by`):

`map`    `lax.map`: one seed after the other, by the program of a single one. It keeps the activations of one seed.
`vmap`   `jax.vmap`: each operation for all seeds at once.

The optimiser takes all seeds at once in both.

Which column runs is decided by the one step, outside of both. A batched index would turn the conditional into a select,
which computes every branch and throws all results away but one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from approxtrain.training.step import Backward, Held, StepMetrics, Task, TrainState, Tree, apply, backward
from approxtrain_kernels import Method

_member = jax.jit(lambda tree, place: jax.tree.map(lambda leaf: leaf[place], tree))


def backward_all(task: Task, column: Sequence[Method], *own: Tree, by: str, frozen_prefix: bool = False) -> Backward:
    """`step.backward` of every seed. `own`: its params, stats, x, labels and key, all with a leading axis of seeds."""

    def one(own: tuple[Tree, ...]) -> Backward:
        return backward(task, column, *own, frozen_prefix=frozen_prefix)

    return lax.map(one, own) if by == "map" else jax.vmap(one)(own)


def apply_all(task: Task, state: TrainState, found: Backward, held: Held) -> tuple[TrainState, StepMetrics]:
    """`step.apply` of every seed: everything but `state.step` and `held` has a leading axis of seeds."""

    def one(own: Any, found: Backward) -> tuple[Any, StepMetrics]:
        new, metrics = apply(task, TrainState(state.step, *own), found, held)
        return new[1:], metrics

    own, metrics = jax.vmap(one)(state[1:], found)
    return TrainState(state.step + 1, *own), metrics


def member(state: TrainState, place: int) -> TrainState:
    """The state of one seed, as it would be alone."""
    return TrainState(state.step, *_member(state[1:], place))
