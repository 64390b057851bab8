"""Which parameters a step moves, and how far: by their path in the module, such as "stage1/0/conv2/kernel"."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from approxtrain.models import ConvLayer, Model
from approxtrain.schedule.bypass import inside
from approxtrain.schedule.frozen_prefix import frozen_parts
from approxtrain_kernels import Method

Tree = Any
Held = Mapping[str, bool | jax.Array]
"""Path of parameters → whether they and their moments stay as they are."""
Factors = Mapping[str, int | jax.Array]
"""Path of parameters → how many times the optimiser's step is taken; 1 where it is not named."""


def held_by(
    model: Model,
    columns: Sequence[Sequence[Method]],
    params: Tree,
    index: jax.Array | int = 0,
    *,
    frozen_prefix: bool = False,
    absent: Sequence[Collection[str]] = (),
) -> Held:
    """What is not updated: the weights under `skip`; in a frozen prefix their layers' biases and norms as well; all
    that is in a block that is `absent` from its column.

    Of several columns, that of the one at `index`; what all of them agree on is known when the step is compiled.
    """
    of_column = zip(columns, absent or [()] * len(columns), strict=True)
    names = by_path(params)
    return _either(
        [
            _held_by_one(model.layers, column, names, frozen_prefix=frozen_prefix)
            | {name for name in names if inside(name, blocks)}
            for column, blocks in of_column
        ],
        index,
    )


def _either(of_column: Sequence[set[str]], index: jax.Array | int) -> Held:
    """Of what each column holds, the one at `index`."""
    # Sorted, so that the program is the same in every process: it is kept on disk by its text.
    flags = {name: [name in names for names in of_column] for name in sorted(set().union(*of_column))}
    return {name: all(flag) or jnp.asarray(flag)[index] for name, flag in flags.items()}


def hold_skipped(
    layers: Sequence[ConvLayer],
    columns: Sequence[Sequence[Method]],
    new: Tree,
    old: Tree,
    index: jax.Array | int = 0,
) -> Tree:
    """After an update, `new` with the weights under `skip`, and their moments, as they were in `old`.

    Both are (parameters, state of an optax optimiser); `layers` are the model's, by `conv_layers`. Of several columns,
    such as `schedule.columns` behind a `lax.switch`, that of the one at `index`.
    """
    names = by_path(new[0])
    paths = {name: name.removesuffix("/value") for name in names}  # as nnx.State has its leaves
    if missing := [layer.path for layer in layers if f"{layer.path}/kernel" not in paths.values()]:
        raise ValueError(
            f"the parameters have no `{missing[0]}/kernel`, though the model has that layer: give its own."
        )
    held = _either([_held_by_one(layers, column, (), frozen_prefix=False) for column in columns], index)
    return hold({name: held[path] for name, path in paths.items() if path in held}, new, old)


def _held_by_one(
    layers: Sequence[ConvLayer], column: Sequence[Method], names: Iterable[str], *, frozen_prefix: bool
) -> set[str]:
    methods = zip(layers, column, strict=True)
    weights = {f"{layer.path}/kernel" for layer, method in methods if not method.updates_weight}
    frozen = frozen_parts(layers, column) if frozen_prefix else {}
    parts = tuple(f"{path}/" for path, method in frozen.items() if not method.updates_weight)
    return weights | {name for name in names if parts and name.startswith(parts)}


def factors_of(
    model: Model,
    factors: Sequence[Sequence[int]],
    params: Tree,
    index: jax.Array | int = 0,
    *,
    frozen: Container[str] = (),
) -> Factors:
    """How far a column with these factors of its layers moves their weights; of several, the one at `index`.

    Of the layers whose path is in `frozen` biases and norms as well, which wait as the weight does in other columns.
    """
    found: dict[str, list[int]] = {}
    for number, layer in enumerate(model.layers):
        of_layer = [each[number] for each in factors]
        parts = tuple(f"{path}/" for path in (layer.path, *layer.norms)) if layer.path in frozen else ()
        for name in by_path(params) if set(of_layer) != {1} else ():
            if name == f"{layer.path}/kernel" or (parts and name.startswith(parts)):
                found[name] = of_layer
    return {
        name: of_layer[0] if len(set(of_layer)) == 1 else jnp.asarray(of_layer)[index]
        for name, of_layer in sorted(found.items())
    }


def lengthened(updates: Tree, factors: Factors) -> Tree:
    """What the optimiser adds to the parameters, as many times as their factor says."""
    if not factors:
        return updates
    return jax.tree_util.tree_map_with_path(lambda path, leaf: leaf * factors.get(path_of(path), 1), updates)


def by_path(tree: Tree) -> dict[str, jax.Array]:
    """The leaves of nested dicts by their path: "stage1/0/conv2/kernel"."""
    return {path_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def like(tree: Tree, leaves: Mapping[str, jax.Array]) -> Tree:
    """Nested dicts as `tree`, of the leaves at their paths."""
    return jax.tree_util.tree_map_with_path(lambda path, _: leaves[path_of(path)], tree)


def path_of(entries: tuple[Any, ...]) -> str:
    """A path in a tree of nested dicts as text."""
    return jax.tree_util.keystr(entries, simple=True, separator="/")


def parameter_of(path: tuple[Any, ...], parameters: Container[str]) -> str:
    """The name of the parameter that a leaf of the optimiser's state at `path` belongs to, and "" of none.

    The optimiser keeps trees like that of the parameters, so the path of a moment ends like its parameter's.
    """
    names = (path_of(path[begin:]) for begin in range(len(path)))
    return next((name for name in names if name in parameters), "")


def parts(opt_state: Tree, kind: type) -> list[Any]:
    """The states of one kind that an optimiser's state is made of, such as one transformation's of a chain."""
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, kind))
    return [node for node in leaves if isinstance(node, kind)]


def hold(held: Held, new: Tree, old: Tree) -> Tree:
    """`new` with the leaves of the held parameters, and of their moments, as they were in `old`."""
    if not held:
        return new
    params = by_path(new[0]).keys()

    def choose(path: tuple[Any, ...], new_leaf: jax.Array, old_leaf: jax.Array) -> jax.Array:
        flag = held.get(parameter_of(path, params), False)
        if isinstance(flag, bool):
            return old_leaf if flag else new_leaf
        return jnp.where(flag, old_leaf, new_leaf)

    return jax.tree_util.tree_map_with_path(choose, new, old)
