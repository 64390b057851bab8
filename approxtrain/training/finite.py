"""Whether what a step made is finite, by module (`train.check`): a few reductions inside of the compiled step.

What comes out is one flag a place and seed. `blame.py` puts into words what they say.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from approxtrain.training.moved import by_path, parameter_of
from approxtrain.training.step import TrainState, Tree

GRADIENT, STATISTICS, STATE = "gradient", "statistics", "state"


class Place(NamedTuple):
    """Something of a module that is looked at."""

    what: str
    """GRADIENT, STATISTICS (what the network holds besides its parameters) or STATE: parameters and their moments after
    the update."""
    path: str
    """The module: "stage1/0/conv2"."""


def places(state: TrainState) -> list[Place]:
    """What the flags of `not_finite` stand for, in their order."""
    return list(_by_place(state.params, state))


def not_finite(gradient: Tree, state: TrainState) -> jax.Array:
    """Which of `places` hold NaN or infinity, after a step took `gradient` and made `state`: bool `[seeds, places]`.

    Behind a barrier, so that XLA computes what the step makes as it does without the check.
    """
    found = _by_place(*lax.optimization_barrier((gradient, state)))
    return jnp.stack([jnp.any(jnp.stack([_flag(leaf) for leaf in leaves]), 0) for leaves in found.values()], axis=1)


def _flag(leaf: jax.Array) -> jax.Array:
    """Of each seed, along the first axis."""
    return ~jnp.isfinite(leaf).all(range(1, leaf.ndim))


def _by_place(gradient: Tree, state: TrainState) -> dict[Place, list[jax.Array]]:
    parameters = by_path(state.params)
    named = [(GRADIENT, name, leaf) for name, leaf in by_path(gradient).items()]
    named += [(STATISTICS, name, leaf) for name, leaf in by_path(state.stats).items()]
    named += [(STATE, name, leaf) for name, leaf in parameters.items()]
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state):
        if name := parameter_of(path, parameters):
            named.append((STATE, name, leaf))
    found: dict[Place, list[jax.Array]] = {}
    for what, name, leaf in named:
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            found.setdefault(Place(what, name.rpartition("/")[0] or name), []).append(leaf)
    return found
