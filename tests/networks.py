"""Networks that are small enough to train in a test. Named by their target, `tests.networks:Small`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from approxtrain.models.batch_norm import BatchNorm
from approxtrain.models.cnn import ConvNormRelu
from approxtrain.models.max_pool import max_pool
from approxtrain.models.relu import relu
from approxtrain.models.resnet_cifar import Block

HE = nnx.initializers.he_normal()


class Small(nnx.Module):
    """Three convolutions with batch norm, by the names first, second and third."""

    def __init__(self, classes: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        options: dict[str, Any] = {"use_bias": False, "kernel_init": HE, "dtype": dtype, "rngs": rngs}
        self.first = nnx.Conv(3, 8, (3, 3), 2, **options)
        self.norm1 = BatchNorm(8, momentum=0.9, dtype=dtype)
        self.second = nnx.Conv(8, 8, (3, 3), **options)
        self.norm2 = BatchNorm(8, momentum=0.9, dtype=dtype)
        self.third = nnx.Conv(8, 8, (3, 3), 2, **options)
        self.norm3 = BatchNorm(8, momentum=0.9, dtype=dtype)
        self.logits = nnx.Linear(8, classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = relu(self.norm1(self.first(x)))
        x = relu(self.norm2(self.second(x)))
        x = relu(self.norm3(self.third(x)))
        return self.logits(x.mean((1, 2)))


class OtherOps(nnx.Module):
    """What `cnn5` does not have and other networks do: pooling, a shortcut of another size, several linear layers."""

    def __init__(self, classes: int, *, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(3, 8, (5, 5), use_bias=False, kernel_init=HE, rngs=rngs)
        self.norm = BatchNorm(8, momentum=0.9)
        self.block = Block(8, 16, 2, dtype=None, rngs=rngs)
        self.dense = nnx.Linear(8 * 8 * 16, 32, rngs=rngs)
        self.logits = nnx.Linear(32, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.norm(max_pool(relu(self.conv(x)), 3, 2))
        return self.logits(relu(self.dense(self.block(x).reshape(len(x), -1))))


class Residual(nnx.Module):
    """A convolution, a block that begins as its shortcut, one of another size."""

    def __init__(self, classes: int, *, zero_init: bool = True, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        self.stem = ConvNormRelu(3, 8, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List(
            [
                Block(8, 8, 1, zero_init=zero_init, dtype=dtype, rngs=rngs),
                Block(8, 16, 2, zero_init=zero_init, dtype=dtype, rngs=rngs),
            ]
        )
        self.logits = nnx.Linear(16, classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.logits(x.mean((1, 2)))


class Linear(nnx.Module):
    """One linear layer over all pixels."""

    def __init__(self, classes: int, *, image_shape: tuple[int, int, int], rngs: nnx.Rngs) -> None:
        height, width, channels = image_shape
        self.logits = nnx.Linear(height * width * channels, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.logits(x.reshape(len(x), -1))


class TwoConvolutions(nnx.Module):
    """For images of 8×8: one convolution with a bias, one of stride 2 without, no norms."""

    def __init__(self, classes: int, *, rngs: nnx.Rngs) -> None:
        self.one = nnx.Conv(3, 5, (3, 3), kernel_init=HE, rngs=rngs)
        self.two = nnx.Conv(5, 4, (3, 3), 2, use_bias=False, kernel_init=HE, rngs=rngs)
        self.logits = nnx.Linear(4 * 4 * 4, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = relu(self.two(relu(self.one(x))))
        return self.logits(x.reshape(len(x), -1))


class NormFirst(nnx.Module):
    """A norm of the images, two convolutions, a norm."""

    def __init__(self, classes: int, *, rngs: nnx.Rngs) -> None:
        self.images = BatchNorm(3)
        self.a, self.b = nnx.Conv(3, 8, (3, 3), rngs=rngs), nnx.Conv(8, 8, (3, 3), rngs=rngs)
        self.norm = BatchNorm(8)
        self.logits = nnx.Linear(8, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.logits(self.norm(self.b(self.a(self.images(x)))).mean((1, 2)))


class Every(nnx.Module):
    """What a schedule can reach, and what stays exact."""

    def __init__(self, classes: int, *, rngs: nnx.Rngs) -> None:
        self.plain = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.grouped = nnx.Conv(8, 8, (3, 3), feature_group_count=4, rngs=rngs)
        self.dilated = nnx.Conv(8, 8, (3, 3), kernel_dilation=2, rngs=rngs)
        self.precise = nnx.Conv(8, 8, (3, 3), precision="highest", rngs=rngs)
        self.up = nnx.ConvTranspose(8, 8, (2, 2), strides=(2, 2), rngs=rngs)
        self.line = nnx.Conv(8, 8, (3,), rngs=rngs)
        self.pixels, self.tokens = nnx.Linear(8, 8, rngs=rngs), nnx.Linear(8, 8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.logits = nnx.Linear(8, classes, rngs=rngs)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = self.up(self.precise(self.dilated(self.grouped(self.plain(x)))))
        x = self.pixels(x).reshape(x.shape[0], -1, 8)
        x = self.dropout(self.tokens(self.line(x)))
        return self.logits(x.mean(1)) * (2.0 if train else 1.0)


class Biased(nnx.Module):
    """Two convolutions with a bias each, a norm between them."""

    def __init__(self, classes: int, *, rngs: nnx.Rngs) -> None:
        self.a, self.norm = nnx.Conv(3, 8, (3, 3), kernel_init=HE, rngs=rngs), BatchNorm(8, momentum=0.9)
        self.b = nnx.Conv(8, 8, (3, 3), kernel_init=HE, rngs=rngs)
        self.logits = nnx.Linear(8, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.logits(relu(self.b(relu(self.norm(self.a(x))))).mean((1, 2)))


class FourPixels(nnx.Module):
    """Two convolutions with batch norm, for images of 2×2 and 8 channels."""

    def __init__(self, classes: int, *, rngs: nnx.Rngs) -> None:
        self.a, self.b = (ConvNormRelu(8, 8, dtype=None, rngs=rngs) for _ in range(2))
        self.logits = nnx.Linear(2 * 2 * 8, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.logits(self.b(self.a(x)).reshape(len(x), -1))


class Tiny(nnx.Module):
    """Two convolutions without a norm."""

    def __init__(self, classes: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        options: dict[str, Any] = {"use_bias": False, "kernel_init": HE, "dtype": dtype, "rngs": rngs}
        self.first, self.second = nnx.Conv(3, 4, (3, 3), 2, **options), nnx.Conv(4, 4, (3, 3), 2, **options)
        self.logits = nnx.Linear(4, classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.logits(self.second(relu(self.first(x))).mean((1, 2)))


class StockNorms(nnx.Module):
    """Two convolutions, with a norm of Flax behind each."""

    def __init__(self, classes: int, *, rngs: nnx.Rngs) -> None:
        options: dict[str, Any] = {"use_bias": False, "rngs": rngs}  # before a norm its gradient is rounding alone
        self.a, self.norm1 = nnx.Conv(3, 8, (3, 3), **options), nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.b, self.norm2 = nnx.Conv(8, 8, (3, 3), **options), nnx.BatchNorm(8, use_fast_variance=False, rngs=rngs)
        self.logits = nnx.Linear(8, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = relu(self.norm1(self.a(x)))
        return self.logits(relu(self.norm2(self.b(x))).mean((1, 2)))


class OwnStatistics(nnx.Module):
    """A convolution, whose results' mean is kept by no norm of Flax, and the number of calls."""

    def __init__(self, classes: int, *, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.seen, self.calls = nnx.BatchStat(jnp.zeros(8)), nnx.BatchStat(jnp.int32(0))
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.logits = nnx.Linear(8, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv(x)
        self.seen[...], self.calls[...] = jax.lax.stop_gradient(x.mean((0, 1, 2))), self.calls[...] + 1
        return self.logits(self.dropout(relu(x)).mean((1, 2)))
