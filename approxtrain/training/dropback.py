"""DropBack: a budget of k weights may differ from their initial values; all others are put back after every step.

    d_i = |w_i + u_i - w0_i|                      of each of the N weights, u being the optimiser's step
    T   = the k weights of largest d, k = floor(keep N), over all parameters together
    w_i ← w_i + u_i  for i in T,  and w0_i for all others

Golub, Lemieux, Lis: Full Deep Neural Network Training on a Pruned Weight Budget, 2019 (arXiv:1806.06949). Under plain
SGD d is the length of the gradients that a weight has accumulated; where it was not in T before, of this step's alone.
Of equally large ones those come first that do in the tree of parameters. After `freeze` steps T stays what it is.

The paper draws w0 again from its seed at every access, for an accelerator whose memory is dear. Here w0 is kept, for
else each step would draw a whole network. So nothing is saved while training; what comes out is a network that k
numbers and a seed describe.

A layer that the schedule holds keeps its weights, and its places in T; the others share what is left of the budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from approxtrain.training.moved import Held, by_path, like, parts

Tree = Any
NOTHING: Held = {}


class DropBackState(NamedTuple):
    """Both trees are like that of the parameters, so that `moved.hold` holds what is of a held one."""

    steps: jax.Array  # int32
    initial: Tree  # w0
    tracked: Tree  # bool: whether it is in T


def dropback(keep: float, freeze: int | None = None) -> optax.GradientTransformationExtraArgs:
    """The last of a chain: shortens an update u to where w + u is what the equation above has, but for rounding.

    `held` says which parameters the step will leave as they are, by their path.
    """

    def init(params: Tree) -> DropBackState:
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, bool), params)
        return DropBackState(jnp.int32(0), jax.tree.map(jnp.copy, params), nothing)

    def update(
        updates: Tree, state: Any, params: Tree = None, *, held: Held = NOTHING, **_: Any
    ) -> tuple[Tree, DropBackState]:
        if params is None:
            raise ValueError("`dropback` compares the weights with those of the start: give `update` the parameters.")

        def chosen() -> Tree:
            moved = jax.tree.map(jnp.add, params, updates)
            distance = jax.tree.map(lambda w, w0: jnp.abs(w - w0), moved, state.initial)
            return _farthest(_ranks(distance, state.tracked, held), keep)

        # the choice looks at all weights at once: once it is frozen nothing of it is computed
        tracked = chosen() if freeze is None else lax.cond(state.steps < freeze, chosen, lambda: state.tracked)
        kept = jax.tree.map(lambda mine, u, w, w0: jnp.where(mine, u, w0 - w), tracked, updates, params, state.initial)
        return kept, DropBackState(state.steps + 1, state.initial, tracked)

    return optax.GradientTransformationExtraArgs(init, update)


def _ranks(distance: Tree, tracked: Tree, held: Held) -> Tree:
    """The distances, by which places are given: a held parameter keeps those it has, and gets no others."""

    def of(name: str, far: jax.Array, mine: jax.Array) -> jax.Array:
        far = jnp.where(jnp.isnan(far), jnp.inf, far)  # else it would be put back, and nobody would see it
        flag = held.get(name, False)
        return far if flag is False else jnp.where(flag, jnp.where(mine, jnp.inf, -1.0), far)

    there = by_path(tracked)
    return like(distance, {name: of(name, far, there[name]) for name, far in by_path(distance).items()})


def _farthest(ranks: Tree, keep: float) -> Tree:
    """Which of all entries are the k largest: exactly k, of equal ones the first."""
    flat, unravel = ravel_pytree(ranks)
    _, places = lax.top_k(flat, budget(flat.size, keep))
    return jax.tree.map(lambda leaf: leaf > 0, unravel(jnp.zeros_like(flat).at[places].set(1)))


def budget(weights: int, keep: float) -> int:
    """k, and at least 1."""
    return max(1, int(keep * weights))


def settled(params: Tree, opt_state: Tree) -> Tree:
    """`params` after an update, those that are not tracked at their initial values to the bit, for w + (w0 - w) rounds.

    As they are where the optimiser has no DropBack.
    """
    for state in parts(opt_state, DropBackState):
        params = jax.tree.map(jnp.where, state.tracked, params, state.initial)
    return params


def kept(params: Tree, opt_state: Tree) -> Mapping[str, list[int]]:
    """How many weights differ from their initial values, of each seed; nothing without DropBack."""
    counts: dict[str, list[int]] = {}
    for state in parts(opt_state, DropBackState):
        differ = jax.tree.map(lambda w, w0: (w != w0).sum(tuple(range(1, w.ndim))), params, state.initial)
        counts["weights_kept"] = np.sum(jax.tree.leaves(differ), axis=0).tolist()
    return counts
