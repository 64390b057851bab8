"""Weight-gradient estimators and convolutions for NHWC images, usable without the rest of approxtrain.

    from approxtrain_kernels import conv, weight_gradient

The names below are loaded when they are first used, so that importing this package does not import jax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from approxtrain_kernels import xla_flags
from approxtrain_kernels.geometry import ConvShape, conv_shape
from approxtrain_kernels.method import Method

if TYPE_CHECKING:
    from approxtrain_kernels.api import conv, weight_gradient

__all__ = ["ConvShape", "Method", "conv", "conv_shape", "weight_gradient"]

xla_flags.ensure()


def __getattr__(name: str) -> Any:
    if name in ("conv", "weight_gradient"):
        from approxtrain_kernels import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
