"""WideResNet of [Zagoruyko 2016](https://arxiv.org/abs/1605.07146): residual blocks that normalise first, for 32×32.

WRN-d-k has d = 6n + 4 layers: a stem of 16 channels and three stages of n blocks with 16k, 32k and 64k.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from approxtrain.models.batch_norm import BatchNorm
from approxtrain.models.relu import relu


class WideBlock(nnx.Module):
    """x + conv(relu(norm(conv(relu(norm(x)))))). Where channels change, a 1×1 convolution of relu(norm(x)) is in the
    place of x."""

    def __init__(self, in_channels: int, channels: int, stride: int, *, dropout: float, **options: Any) -> None:
        dtype, rngs = options["dtype"], options["rngs"]
        options |= {"use_bias": False, "kernel_init": nnx.initializers.he_normal()}
        self.norm1 = BatchNorm(in_channels, momentum=0.9, dtype=dtype)
        self.conv1 = nnx.Conv(in_channels, channels, (3, 3), stride, **options)
        self.norm2 = BatchNorm(channels, momentum=0.9, dtype=dtype)
        self.dropout = nnx.Dropout(dropout, rngs=rngs) if dropout else None
        self.conv2 = nnx.Conv(channels, channels, (3, 3), **options)
        self.shortcut = None if in_channels == channels else nnx.Conv(in_channels, channels, (1, 1), stride, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        y = relu(self.norm2(self.conv1(y)))
        if self.dropout is not None:
            y = self.dropout(y)
        return self.conv2(y) + shortcut


class WideResNet(nnx.Module):
    """WRN-`depth`-`widening`."""

    def __init__(
        self,
        depth: int = 16,
        widening: int = 4,
        classes: int = 10,
        *,
        dropout: float = 0.0,
        in_channels: int = 3,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            raise ValueError(f"`depth` (={depth}) must be 6n + 4, such as 16, 22 or 28.")
        init = nnx.initializers.he_normal()
        self.stem = nnx.Conv(in_channels, 16, (3, 3), use_bias=False, kernel_init=init, dtype=dtype, rngs=rngs)

        def stage(in_channels: int, channels: int, stride: int) -> nnx.List:
            options: dict[str, Any] = {"dropout": dropout, "dtype": dtype, "rngs": rngs}
            first = WideBlock(in_channels, channels, stride, **options)
            return nnx.List([first, *(WideBlock(channels, channels, 1, **options) for _ in range(blocks - 1))])

        width = 16 * widening
        self.stage1, self.stage2 = stage(16, width, 1), stage(width, 2 * width, 2)
        self.stage3, width = stage(2 * width, 4 * width, 2), 4 * width
        self.norm = BatchNorm(width, momentum=0.9, dtype=dtype)
        self.logits = nnx.Linear(width, classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for stage in (self.stage1, self.stage2, self.stage3):
            for block in stage:
                x = block(x)
        return self.logits(relu(self.norm(x)).mean((1, 2)))
