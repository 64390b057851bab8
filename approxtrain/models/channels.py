"""The channels of a network by which its kernels fall into groups of weights. Imports no jax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from approxtrain.models.layer import ConvLayer

INPUTS, OUTPUTS = -2, -1
"""The axes of a kernel `[Kh, Kw, Ci, Co]` (or `[Ci, Co]`) whose entries are channels."""
Groups = Mapping[str, Sequence[int]]
"""Path of a kernel → the axes of which each entry is a group."""


def channels_of(layers: Sequence[ConvLayer], classes: int) -> Groups:
    """The inner channels of a network whose layers these are, as each of them reads and makes them.

    Not those of the images, which the first layer reads, nor the classes, where the last layer makes them.
    """
    groups: dict[str, list[int]] = {}
    for layer in layers:
        makes_classes = layer is layers[-1] and layer.shape.out_channels == classes
        axes = [INPUTS] * (layer is not layers[0]) + [OUTPUTS] * (not makes_classes)
        groups |= {f"{layer.path}/kernel": axes} if axes else {}
    return groups
