"""The frozen prefix: the lowest layers of a column, where no parameter gets a gradient at all. Imports no jax.

Frozen is not held: under `zero` the optimiser's moments still move these parameters, under `skip` nothing does.

A dgrad is there for the parameters below it. The weight of a layer under `zero` or `skip` asks for none, but the batch
norm after the convolution does, and so every dgrad is computed, down to the first norm. Where a schedule says
`frozen_prefix = true`, norms and biases of the lowest such layers get no gradient either, and then nobody asks:

    layer            1      2      3      4      5
    method           zero   skip   zero   full   zero
    frozen           yes    yes    yes                   the longest run from the bottom: a prefix of 3
    dgrad            -      saved  saved  saved  needed  by the weight of layer 4

The dgrad of the layer above the prefix is saved as well: it would be handed down into the prefix. The first layer has
none to save, with or without a prefix: the images need no gradient. An approximated dgrad is left out alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from approxtrain.models.layer import ConvLayer
from approxtrain_kernels import Method


def prefix(column: Sequence[Method]) -> int:
    """How many layers, from the lowest one up, have a method that gives no gradient."""
    return sum(1 for _ in takewhile(lambda method: not method.gives_gradient, column))


def frozen_parts(layers: Sequence[ConvLayer], column: Sequence[Method]) -> dict[str, Method]:
    """What the frozen prefix holds: path of each convolution and normalisation in it → the method of its layer."""
    frozen = zip(layers[: prefix(column)], column, strict=False)
    return {path: method for layer, method in frozen for path in (layer.path, *layer.norms)}
