"""approxtrain: train convolutional networks with approximated weight gradients, by a schedule over layers and steps.

In your own training loop (docs/library.md):

    conv, weight_gradient                    one convolution, and one weight gradient, by a method
    conv_layers, approximate, drawing        a Flax NNX model that follows a column of a schedule
    Schedule, hold_skipped                   which method each layer uses at each step, and what `skip` leaves alone
    mean_gradient                            over devices that share a batch (docs/parallel.md)
    BatchNorm, relu, max_pool                in the place of Flax's, and faster on a CPU
    load_run                                 a network that `approxtrain train` has trained

Importing this package does not import jax; what needs it imports it when it is looked up.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import approxtrain_kernels  # noqa: F401  (sets the XLA flag that jaxlib 0.10.x needs, before jax starts)

if TYPE_CHECKING:
    from approxtrain.models.approximate import approximate, drawing
    from approxtrain.models.batch_norm import BatchNorm
    from approxtrain.models.conv_layers import conv_layers
    from approxtrain.models.max_pool import max_pool
    from approxtrain.models.relu import relu
    from approxtrain.schedule import Schedule
    from approxtrain.training.contributions import mean_gradient
    from approxtrain.training.loaded import load_run
    from approxtrain.training.moved import hold_skipped
    from approxtrain_kernels import conv, weight_gradient

__all__ = [
    "BatchNorm",
    "Schedule",
    "approximate",
    "conv",
    "conv_layers",
    "drawing",
    "hold_skipped",
    "load_run",
    "max_pool",
    "mean_gradient",
    "relu",
    "weight_gradient",
]
__version__ = "0.1.0"

_HOMES = {
    "BatchNorm": "approxtrain.models.batch_norm",
    "Schedule": "approxtrain.schedule",
    "approximate": "approxtrain.models.approximate",
    "conv": "approxtrain_kernels",
    "conv_layers": "approxtrain.models.conv_layers",
    "drawing": "approxtrain.models.approximate",
    "hold_skipped": "approxtrain.training.moved",
    "load_run": "approxtrain.training.loaded",
    "max_pool": "approxtrain.models.max_pool",
    "mean_gradient": "approxtrain.training.contributions",
    "relu": "approxtrain.models.relu",
    "weight_gradient": "approxtrain_kernels",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
