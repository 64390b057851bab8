"""The peer that a training step has to beat: the same network on Flax's batch norm and XLA's convolutions.

Its convolutions are `lax.conv_general_dilated` and its batch norms `nnx.BatchNorm`, with the gradients that autodiff
makes of them. ReLU and pooling stay as the author of the network wrote them. The methods of a schedule are ignored.
"""

from __future__ import annotations

from typing import Any

from flax import nnx

from approxtrain.models.approximate import modules_by_path
from approxtrain.models.batch_norm import BatchNorm


def plain(network: nnx.Module, layers: Any, column: Any) -> nnx.Module:
    """`network` itself, in the place of what `approximate` makes of it."""
    for module in modules_by_path(network).values():
        if type(module) is BatchNorm:
            module.__class__ = nnx.BatchNorm  # pyright: ignore[reportAttributeAccessIssue]
    return network
