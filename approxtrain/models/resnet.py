"""ResNet-18 and ResNet-50 of [He 2015](https://arxiv.org/abs/1512.03385), for ImageNet and for small images.

A block that changes size or channels has a 1×1 convolution with batch norm in its shortcut ("option B"), and a
bottleneck block halves the size in its 3×3 convolution, as everybody's do since
[Goyal 2017](https://arxiv.org/abs/1706.02677). `stem="small"` begins with one 3×3 convolution of stride 1, for images
of 32×32, where `stem="imagenet"` has 7×7 with stride 2 and 3×3 max pooling.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from approxtrain.models.batch_norm import BatchNorm
from approxtrain.models.max_pool import max_pool
from approxtrain.models.relu import relu

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
"""Depth → blocks of each of the four stages."""


class ConvNorm(nnx.Module):
    """A convolution without bias, and batch norm."""

    def __init__(
        self, in_channels: int, channels: int, size: int, stride: int = 1, *, dtype: Any, rngs: nnx.Rngs
    ) -> None:
        init = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
        low = (size - 1) // 2  # as much on either side, whatever the stride
        self.conv = nnx.Conv(
            in_channels,
            channels,
            (size, size),
            stride,
            padding=((low, low), (low, low)),
            use_bias=False,
            kernel_init=init,
            dtype=dtype,
            rngs=rngs,
        )
        self.norm = BatchNorm(channels, momentum=0.9, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x))


class ResidualBlock(nnx.Module):
    """relu(body(x) + shortcut(x)): two 3×3 convolutions, or with `bottleneck` 1×1, 3×3 and 1×1 to four times as many
    channels."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, *, bottleneck: bool, dtype: Any, rngs: nnx.Rngs
    ) -> None:
        options: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.out_channels = 4 * channels if bottleneck else channels
        if bottleneck:
            sizes = ((in_channels, channels, 1), (channels, channels, 3, stride), (channels, 4 * channels, 1))
        else:
            sizes = ((in_channels, channels, 3, stride), (channels, channels, 3))
        self.body = nnx.List([ConvNorm(*size, **options) for size in sizes])
        last = self.body[-1].norm
        last.scale = nnx.Param(jnp.zeros(self.out_channels))  # the block begins as its shortcut (Goyal 2017)
        same = stride == 1 and in_channels == self.out_channels
        self.shortcut = None if same else ConvNorm(in_channels, self.out_channels, 1, stride, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        for layer in self.body[:-1]:
            y = relu(layer(y))
        y = self.body[-1](y)
        return relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nnx.Module):
    def __init__(
        self,
        depth: int = 50,
        classes: int = 1000,
        *,
        stem: Literal["imagenet", "small"] = "imagenet",
        in_channels: int = 3,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        if depth not in BLOCKS:
            raise ValueError(f"`depth` (={depth}) must be one of {', '.join(map(str, BLOCKS))}.")
        self.pools = stem == "imagenet"
        size, stride = (7, 2) if self.pools else (3, 1)
        self.stem = ConvNorm(in_channels, 64, size, stride, dtype=dtype, rngs=rngs)
        width = 64

        def stage(channels: int, stride: int, blocks: int) -> nnx.List:
            nonlocal width
            made = []
            for number in range(blocks):
                block = ResidualBlock(
                    width, channels, 1 if number else stride, bottleneck=depth > 34, dtype=dtype, rngs=rngs
                )
                made.append(block)
                width = block.out_channels
            return nnx.List(made)

        one, two, three, four = BLOCKS[depth]
        self.stage1, self.stage2 = stage(64, 1, one), stage(128, 2, two)
        self.stage3, self.stage4 = stage(256, 2, three), stage(512, 2, four)
        self.logits = nnx.Linear(width, classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = relu(self.stem(x))
        if self.pools:
            x = max_pool(x, 3, 2)
        for stage in (self.stage1, self.stage2, self.stage3, self.stage4):
            for block in stage:
                x = block(x)
        return self.logits(x.mean((1, 2)))
