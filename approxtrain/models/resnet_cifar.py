"""The small ResNets of [He 2015](https://arxiv.org/abs/1512.03385) 4.2, for images of 32×32: 6n + 2 layers.

A stem of 16 channels; three stages of n residual blocks with 16, 32 and 64 channels, the second and third at half the
size; the mean over the image; one linear layer. The shortcuts have no parameters ("option A").
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from approxtrain.models.batch_norm import BatchNorm
from approxtrain.models.cnn import ConvNormRelu
from approxtrain.models.relu import relu


class CifarResNet(nnx.Module):
    """ResNet-`depth`: 20, 32, 44, 56, … ; 14 is the paper's smaller network.

    `zero_init`: the last scale of each block begins at zero, and so the block as its shortcut (Goyal 2017); or that of
    the blocks whose path fits: "stage?/2".
    """

    def __init__(
        self,
        depth: int = 20,
        classes: int = 10,
        *,
        zero_init: bool | str = False,
        in_channels: int = 3,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"`depth` (={depth}) must be 6n + 2, such as 14, 20, 32 or 56.")
        self.stem = ConvNormRelu(in_channels, 16, dtype=dtype, rngs=rngs)

        pattern = ("*" if zero_init else "") if isinstance(zero_init, bool) else zero_init

        def stage(name: str, in_channels: int, channels: int, stride: int) -> nnx.List:
            shapes = [(in_channels, channels, stride), *[(channels, channels, 1)] * (blocks - 1)]
            zero = [fnmatchcase(f"{name}/{number}", pattern) for number in range(blocks)]
            made = zip(shapes, zero, strict=True)
            return nnx.List([Block(*shape, zero_init=each, dtype=dtype, rngs=rngs) for shape, each in made])

        self.stage1, self.stage2 = stage("stage1", 16, 16, 1), stage("stage2", 16, 32, 2)
        self.stage3 = stage("stage3", 32, 64, 2)
        self.logits = nnx.Linear(64, classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for stage in (self.stage1, self.stage2, self.stage3):
            for block in stage:
                x = block(x)
        return self.logits(x.mean((1, 2)))


class Block(nnx.Module):
    """Two 3×3 convolutions, and around them a shortcut: every stride-th pixel, new channels filled with zeros."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, *, zero_init: bool = False, dtype: Any, rngs: nnx.Rngs
    ) -> None:
        options: dict[str, Any] = {"use_bias": False, "kernel_init": nnx.initializers.he_normal()}
        options |= {"dtype": dtype, "rngs": rngs}
        self.conv1 = nnx.Conv(in_channels, channels, (3, 3), stride, **options)
        self.norm1 = BatchNorm(channels, momentum=0.9, dtype=dtype)
        self.conv2 = nnx.Conv(channels, channels, (3, 3), **options)
        self.norm2 = BatchNorm(channels, momentum=0.9, dtype=dtype)
        if zero_init:
            self.norm2.scale = nnx.Param(jnp.zeros(channels))
        self.stride, self.new_channels = stride, channels - in_channels

    def __call__(self, x: jax.Array) -> jax.Array:
        y = relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.stride > 1:
            x = x[:, :: self.stride, :: self.stride]
        if more := self.new_channels:
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2)))
        return relu(y + x)
