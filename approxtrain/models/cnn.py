"""Two small networks: the paper's 2-layer CNN, and one of five layers for the quickstart and for Figure 3."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from approxtrain.models.batch_norm import BatchNorm
from approxtrain.models.max_pool import max_pool
from approxtrain.models.relu import relu


class CNN2(nnx.Module):
    """Two 5×5×64 convolutions and three linear layers: the TensorFlow tutorial's network for CIFAR-10, with its 3×3
    pooling of stride 2, and batch norm in place of its local response normalisation."""

    def __init__(
        self,
        classes: int = 10,
        *,
        image_shape: tuple[int, int, int] = (32, 32, 3),
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        height, width, channels = image_shape
        options: dict[str, Any] = {"use_bias": False, "kernel_init": nnx.initializers.he_normal()}
        options |= {"dtype": dtype, "rngs": rngs}
        self.conv1 = nnx.Conv(channels, 64, (5, 5), **options)
        self.norm1 = BatchNorm(64, momentum=0.9, dtype=dtype)
        self.conv2 = nnx.Conv(64, 64, (5, 5), **options)
        self.norm2 = BatchNorm(64, momentum=0.9, dtype=dtype)
        pixels = -(-height // 4) * -(-width // 4)
        self.dense1 = nnx.Linear(pixels * 64, 384, dtype=dtype, rngs=rngs)
        self.dense2 = nnx.Linear(384, 192, dtype=dtype, rngs=rngs)
        self.logits = nnx.Linear(192, classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.norm1(max_pool(relu(self.conv1(x)), 3, 2))
        x = max_pool(self.norm2(relu(self.conv2(x))), 3, 2)
        x = relu(self.dense1(x.reshape(x.shape[0], -1)))
        return self.logits(relu(self.dense2(x)))


class CNN5(nnx.Module):
    """Five 3×3 convolutions: the smallest network that Figure 3's five rows fit."""

    def __init__(self, classes: int = 10, *, in_channels: int = 3, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        widths, strides = (16, 32, 32, 64, 64), (1, 2, 1, 2, 1)
        layers = zip((in_channels, *widths), widths, strides, strict=False)
        self.features = nnx.List([ConvNormRelu(*layer, dtype=dtype, rngs=rngs) for layer in layers])
        self.logits = nnx.Linear(widths[-1], classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.features:
            x = layer(x)
        return self.logits(x.mean((1, 2)))


class ConvNormRelu(nnx.Module):
    """3×3 convolution without bias, batch norm, ReLU."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1, *, dtype: Any, rngs: nnx.Rngs) -> None:
        init = nnx.initializers.he_normal()
        self.conv = nnx.Conv(
            in_channels, channels, (3, 3), stride, use_bias=False, kernel_init=init, dtype=dtype, rngs=rngs
        )
        self.norm = BatchNorm(channels, momentum=0.9, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        return relu(self.norm(self.conv(x)))
