"""VGG-19: sixteen 3×3 convolutions in five groups, each group pooled by 2×2, then one linear layer.

Configuration E of [Simonyan 2014](https://arxiv.org/abs/1409.1556), with batch norm.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from approxtrain.models.cnn import ConvNormRelu
from approxtrain.models.max_pool import max_pool

WIDTHS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)


class VGG19(nnx.Module):
    def __init__(
        self,
        classes: int = 10,
        *,
        image_shape: tuple[int, int, int] = (32, 32, 3),
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        height, width, channels = image_shape
        for number, widths in enumerate(WIDTHS, start=1):
            layers = zip((channels, *widths), widths, strict=False)
            group = nnx.List([ConvNormRelu(*layer, dtype=dtype, rngs=rngs) for layer in layers])
            setattr(self, f"group{number}", group)
            height, width, channels = -(-height // 2), -(-width // 2), widths[-1]
        self.logits = nnx.Linear(height * width * channels, classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for number in range(1, len(WIDTHS) + 1):
            for layer in getattr(self, f"group{number}"):
                x = layer(x)
            x = max_pool(x, 2, 2)
        return self.logits(x.reshape(x.shape[0], -1))
