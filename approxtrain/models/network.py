"""The NNX module that runs a network's description: one module for every network.

    net = Network(models.get("resnet20"), rngs=nnx.Rngs(0))
    logits = net(images, column=schedule.column(step), key=key, train=True)

`parts` holds the operations that own parameters, by their path. The method of each convolution comes in as an argument
of the call, never as state: one network serves every column of a schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from approxtrain.models import description as d
from approxtrain.models.batch_norm import BatchNorm
from approxtrain.models.max_pool import max_pool
from approxtrain.models.relu import relu
from approxtrain_kernels import Method, conv
from approxtrain_kernels.methods.full import Full

BATCH_NORM_MOMENTUM = 0.9  # ours: the paper states none


class Conv(nnx.Module):
    """A convolution, SAME padding, whose gradients are its method's. He-normal weights."""

    def __init__(self, op: d.Conv, in_channels: int, *, dtype: Any, rngs: nnx.Rngs) -> None:
        self.stride = op.stride
        self.dtype = dtype
        init = nnx.initializers.he_normal()
        self.kernel = nnx.Param(init(rngs.params(), (op.kernel, op.kernel, in_channels, op.channels), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(op.channels)) if op.bias else None

    def __call__(self, x: jax.Array, method: Method, key: jax.Array | None) -> jax.Array:
        w = self.kernel[...].astype(self.dtype)
        y = conv(x, w, strides=(self.stride, self.stride), padding="SAME", method=method, key=key)
        return y if self.bias is None else y + self.bias[...].astype(self.dtype)


class Network(nnx.Module):
    """images `[N, H, W, C]` → logits `[N, classes]` in float32. `dtype` is that of the computation.

    A subclass may run the same description on other operations, as benchmarks do.
    """

    conv: Any = Conv
    batch_norm: Any = BatchNorm
    relu: Any = staticmethod(relu)
    max_pool: Any = staticmethod(max_pool)

    def __init__(self, model: d.Model, *, rngs: nnx.Rngs, dtype: Any = jnp.float32) -> None:
        self.model = model
        self.dtype = dtype
        self.parts = nnx.Dict()
        for op, shape in d.walk(model.ops, model.image_shape):
            channels = shape[-1]
            match op:
                case d.Conv():
                    self.parts[op.path] = self.conv(op, channels, dtype=dtype, rngs=rngs)
                case d.BatchNorm():
                    self.parts[op.path] = self.batch_norm(channels, momentum=BATCH_NORM_MOMENTUM, dtype=dtype)
                case d.Dense():
                    self.parts[op.path] = nnx.Linear(channels, op.units, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x: jax.Array,
        *,
        column: Sequence[Method] | None = None,
        key: jax.Array | None = None,
        train: bool = False,
    ) -> jax.Array:
        """`column`: one method a layer, by default `full`. `key`: new in each step; layers fold themselves in."""
        methods = list(column) if column is not None else [Full()] * len(self.model.layers)
        if len(methods) != len(self.model.layers):
            raise ValueError(
                f"`column` has {len(methods)} methods, but {self.model.name} has {len(self.model.layers)} layers."
            )
        cells = {}
        for layer, method in zip(self.model.layers, methods, strict=True):
            layer_key = None if key is None else jax.random.fold_in(key, layer.number)
            cells[layer.path] = (method, layer_key)
        return self._run(self.model.ops, x.astype(self.dtype), cells, train).astype(jnp.float32)

    def _run(self, ops: tuple[d.Op, ...], x: jax.Array, cells: dict[str, Any], train: bool) -> jax.Array:
        for op in ops:
            match op:
                case d.Conv():
                    x = self.parts[op.path](x, *cells[op.path])
                case d.BatchNorm():
                    x = self.parts[op.path](x, use_running_average=not train)
                case d.Dense():
                    x = self.parts[op.path](x)
                case d.Relu():
                    x = self.relu(x)
                case d.MaxPool():
                    x = self.max_pool(x, op.window, op.stride)
                case d.Residual():
                    body = self._run(op.body, x, cells, train)
                    x = body + _shortcut(x, body.shape)
                case d.GlobalMean():
                    x = x.mean((1, 2))
                case d.Flatten():
                    x = x.reshape(x.shape[0], -1)
        return x


def _shortcut(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Every stride-th pixel of x, and zeros for the channels it lacks: He 2015's parameter-free option A."""
    stride, more = x.shape[1] // shape[1], shape[3] - x.shape[3]
    x = x[:, ::stride, ::stride]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2))) if more else x
