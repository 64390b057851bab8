"""Several seeds in one program: `over_seeds` makes of a function that knows one seed one that knows all.

State, order and keys of a run bear a leading axis of seeds, of length 1 where there is one. A step of one small network
leaves most of a large device idle, and its time is that of many short kernels, not of arithmetic. The same step of
several networks, which differ in nothing but their seed, can be computed in two forms (`train.seeds_by`):

`map`    `lax.map`: one seed after the other, by the program of a single one. It keeps the activations of one seed.
`vmap`   `jax.vmap`: each operation for all seeds at once.

What is the same for all seeds, such as the index of the column that runs, is not mapped over: the function closes over
it. A batched index would turn the conditional into a select, which computes every branch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import lax


def default_form() -> str:
    """ "map" on a CPU, whose convolutions have no fast form for several kernels at once; else "vmap"."""
    return "map" if jax.default_backend() == "cpu" else "vmap"


def over_seeds(function: Callable[..., Any], form: str) -> Callable[..., Any]:
    """`function` of the arguments of one seed, as a function of those of all seeds along a leading axis.

    A single seed is neither a loop nor a batch of one, for which XLA has no fast form.
    """

    def of_all(*arguments: Any) -> Any:
        if jax.tree.leaves(arguments)[0].shape[0] == 1:
            of_one = _apart(jax.tree.map(lambda leaf: lax.squeeze(leaf, [0]), arguments))
            return _apart(jax.tree.map(lambda leaf: lax.expand_dims(leaf, [0]), function(*of_one)))
        if form == "vmap":
            return jax.vmap(function)(*arguments)
        return lax.map(lambda of_one: function(*of_one), arguments)

    return of_all


def _apart(tree: Any) -> Any:
    """`tree`, reshaped before anything is computed with it.

    On a CPU XLA moves reshapes into the arithmetic that follows, which then rounds otherwise than without a seed axis.
    """
    return lax.platform_dependent(tree, cpu=lax.optimization_barrier, default=lambda tree: tree)
