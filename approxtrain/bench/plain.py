"""The peer that a training step has to beat: the same network on Flax's and XLA's own operations.

`nnx.Conv`, `nnx.BatchNorm`, `nnx.relu` and `nnx.max_pool`, with the gradients that autodiff makes of them. Same
parameters in the same order, so that both start from the same numbers; the methods of a schedule are ignored.
"""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from approxtrain.models.description import Conv as ConvOp
from approxtrain.models.network import Network


class PlainConv(nnx.Module):
    """`nnx.Conv` in the place of our convolution."""

    def __init__(self, op: ConvOp, in_channels: int, *, dtype: Any, rngs: nnx.Rngs) -> None:
        size, stride = (op.kernel, op.kernel), (op.stride, op.stride)
        options: dict[str, Any] = {"padding": "SAME", "use_bias": op.bias, "dtype": dtype, "rngs": rngs}
        init = nnx.initializers.he_normal()
        self.conv = nnx.Conv(in_channels, op.channels, size, stride, kernel_init=init, **options)

    def __call__(self, x: jax.Array, method: Any, key: Any) -> jax.Array:
        return self.conv(x)


def _batch_norm(channels: int, **options: Any) -> nnx.BatchNorm:
    return nnx.BatchNorm(channels, rngs=nnx.Rngs(0), **options)  # draws nothing


def _max_pool(x: jax.Array, window: int, stride: int) -> jax.Array:
    return nnx.max_pool(x, (window, window), (stride, stride), padding="SAME")


class PlainNetwork(Network):
    conv = PlainConv
    batch_norm = staticmethod(_batch_norm)
    relu = staticmethod(nnx.relu)
    max_pool = staticmethod(_max_pool)
