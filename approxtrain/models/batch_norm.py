"""Batch normalisation with its gradient written out: two sums over the batch each way, and each of them fast.

Over the M = N·H·W entries of each channel, with mean μ and variance σ², and r = 1 / √(σ² + ε):

    y  = γ r (x − μ) + β
    dβ = Σ dy        dγ = r (Σ dy·x − μ Σ dy)        dx = γ r (dy − dβ / M − r (x − μ) dγ / M)

(Ioffe & Szegedy 2015.) What autodiff makes of `nnx.BatchNorm` takes more sums, and XLA's CPU backend is slow at a
sum over (N, H, W): here rows of about WIDE numbers are added, as vectors, for any number of channels.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

WIDE = 1024
"""Numbers in a row that is added on a CPU: enough for the vectors, and few rows are left over to add."""


class BatchNorm(nnx.BatchNorm):
    """`nnx.BatchNorm`, by the same names and with the same results, in less time. `rngs` may be left out.

    Over other axes than all but the last, with a mask, without scale or bias, or over groups of devices it is Flax's.
    """

    def __init__(self, num_features: int, *, rngs: nnx.Rngs | None = None, **options: Any) -> None:
        super().__init__(num_features, rngs=rngs or nnx.Rngs(0), **options)

    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None, *, mask: jax.Array | None = None
    ) -> jax.Array:
        """x `[…, C]` → `[…, C]`. Training moves the averages by 1 − momentum."""
        in_use = self.use_running_average if use_running_average is None else use_running_average
        plain = self.axis in (-1, x.ndim - 1) and mask is None and self.axis_index_groups is None
        if not plain or self.scale is None or self.bias is None or in_use is None:
            return super().__call__(x, use_running_average, mask=mask)
        (x,) = self.promote_dtype((x,), dtype=self.dtype)
        scale, bias = self.scale[...], self.bias[...]
        if in_use:
            slope = scale * lax.rsqrt(self.var[...] + self.epsilon)
            return ((x - self.mean[...]) * slope + bias).astype(x.dtype)
        y, mean, variance = normalise(x, scale, bias, self.epsilon, self.axis_name)  # pyright: ignore[reportGeneralTypeIssues]
        for average, new in ((self.mean, mean), (self.var, variance)):
            average[...] = self.momentum * average[...] + (1 - self.momentum) * lax.stop_gradient(new)
        return y


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def normalise(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, axis_name: str | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x `[…, C]`, γ and β `[C]` → y in the dtype of x, and μ and σ² `[C]` in float32, which carry no gradient.

    `axis_name`: over the images of all devices along this axis of a `shard_map`, which have as many each.
    """
    return _forward(x, scale, bias, epsilon, axis_name)[0]


def _forward(x, scale, bias, epsilon, axis_name):
    wide = x.astype(jnp.float32)
    count = x.size // x.shape[-1]
    mean, square = _over_devices((channel_sum(wide) / count, channel_sum(wide * wide) / count), axis_name)
    variance = jnp.maximum(square - mean * mean, 0.0)  # rounding may go below 0
    inverse = lax.rsqrt(variance + epsilon)
    y = (wide - mean) * (inverse * scale) + bias
    return (y.astype(x.dtype), mean, variance), (x, mean, inverse, scale)


def _backward(axis_name, residuals, cotangents):
    x, mean, inverse, scale = residuals
    dy = cotangents[0].astype(jnp.float32)
    wide = x.astype(jnp.float32)
    count = x.size // x.shape[-1]
    dbias = channel_sum(dy)
    dscale = inverse * (channel_sum(dy * wide) - mean * dbias)
    slope = scale * inverse
    # γ and β are given what is of this device's images, which is averaged with the gradients of all other parameters
    offset, tilt = _over_devices((dbias / count, slope * inverse * dscale / count), axis_name)
    dx = slope * (dy - offset) - tilt * (wide - mean)
    return dx.astype(x.dtype), dscale, dbias, None


normalise.defvjp(_forward, _backward)


def _over_devices(sums: Any, axis_name: str | None) -> Any:
    return sums if axis_name is None else lax.pmean(sums, axis_name)


def channel_sum(x: jax.Array) -> jax.Array:
    """Σ over all axes but the last, in float32: `[…, C]` → `[C]`."""
    return lax.platform_dependent(x, cpu=_sum_of_rows, default=lambda x: x.sum(range(x.ndim - 1)))


def _sum_of_rows(x: jax.Array) -> jax.Array:
    channels = x.shape[-1]
    pixels = x.size // channels
    in_a_row = max(WIDE // channels, 1)
    while pixels % in_a_row:
        in_a_row //= 2
    return x.reshape(-1, in_a_row * channels).sum(0).reshape(in_a_row, channels).sum(0)
