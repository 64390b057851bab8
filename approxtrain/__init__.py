"""approxtrain: train convolutional networks with approximated weight gradients, by a schedule over layers and steps.

    from approxtrain import Schedule, models

Importing this package does not import jax; what needs it imports it when called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import approxtrain_kernels  # noqa: F401  (sets the XLA flag that jaxlib 0.10.x needs, before jax starts)

if TYPE_CHECKING:
    from approxtrain.schedule import Schedule

__all__ = ["Schedule"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Schedule":
        from approxtrain.schedule import Schedule

        return Schedule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
