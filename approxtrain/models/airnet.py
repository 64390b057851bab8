"""A small network that reaches a good accuracy in few epochs, in the manner of
[airbench](https://github.com/KellerJordan/cifar10-airbench): few layers, wide, pooled early, no residuals.

A 2×2 convolution sees the image. Three groups follow, of convolution, 2×2 max pooling, batch norm, GELU, convolution,
batch norm, GELU; then the largest value of each channel, and a linear layer whose result is scaled down. Convolutions
begin as the identity in their first channels (Dirac), so that even the first steps reach every layer. In evaluation the
logits are the mean of those of the image and of its mirror image.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from approxtrain.models.batch_norm import BatchNorm
from approxtrain.models.max_pool import max_pool

SCALE = 1 / 9
"""Of the logits."""


def dirac(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """`[Kh, Kw, Ci, Co]`: the first Ci of the Co channels pass their input on; the others are drawn (He, uniform)."""
    kernel = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")(key, shape, dtype)
    kh, kw, ci, co = shape
    same = min(ci, co)
    identity = jnp.zeros((kh, kw, ci, same), dtype).at[kh // 2, kw // 2].set(jnp.eye(ci, same, dtype=dtype))
    return kernel.at[..., :same].set(identity)


class Group(nnx.Module):
    def __init__(self, in_channels: int, channels: int, *, dtype: Any, rngs: nnx.Rngs) -> None:
        options: dict[str, Any] = {"use_bias": False, "kernel_init": dirac, "dtype": dtype, "rngs": rngs}
        self.conv1 = nnx.Conv(in_channels, channels, (3, 3), **options)
        self.norm1 = BatchNorm(channels, momentum=0.6, epsilon=1e-12, dtype=dtype)
        self.conv2 = nnx.Conv(channels, channels, (3, 3), **options)
        self.norm2 = BatchNorm(channels, momentum=0.6, epsilon=1e-12, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.gelu(self.norm1(max_pool(self.conv1(x), 2, 2)))
        return nnx.gelu(self.norm2(self.conv2(x)))


class AirNet(nnx.Module):
    """`widths` of the three groups; airbench94 has 64, 256 and 256. `mirrored`: whether evaluation sees both images."""

    def __init__(
        self,
        classes: int = 10,
        widths: tuple[int, int, int] = (64, 128, 128),
        *,
        in_channels: int = 3,
        mirrored: bool = True,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.mirrored, self.deterministic = mirrored, False  # `eval()` makes the latter true
        first = 24
        self.patches = nnx.Conv(in_channels, first, (2, 2), padding="VALID", dtype=dtype, rngs=rngs)
        pairs = zip((first, *widths), widths, strict=False)
        self.groups = nnx.List([Group(*pair, dtype=dtype, rngs=rngs) for pair in pairs])
        self.logits = nnx.Linear(widths[-1], classes, use_bias=False, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.mirrored and self.deterministic:
            return (self.of_one(x) + self.of_one(x[:, :, ::-1])) / 2
        return self.of_one(x)

    def of_one(self, x: jax.Array) -> jax.Array:
        """The logits of images as they are, `[N, classes]`."""
        x = nnx.gelu(self.patches(x))
        for group in self.groups:
            x = group(x)
        return self.logits(x.max((1, 2))) * SCALE
