"""From the data set on the device to one normalised, augmented batch, inside the compiled step.

The whole set lives on the device as uint8. Which images a step takes, where it crops and what it flips is a pure
function of the seed and the step, so nothing of it is stored in a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from approxtrain.training.seeds import over_seeds
from approxtrain_kernels.replicas import own_part

PADDING = 4
"""Pixels that a random crop may shift the image by, in each direction."""


class Images(NamedTuple):
    """A split of a data set on the device. `mean` and `std` are per channel, in units of the uint8 pixels."""

    pixels: jax.Array  # [N, H, W, C] uint8
    labels: jax.Array  # [N] int32
    mean: jax.Array  # [C] float32
    std: jax.Array  # [C] float32


class Keys(NamedTuple):
    """A stream of random numbers for each use, of each seed; a step or an epoch is folded in where it is drawn from."""

    init: jax.Array
    order: jax.Array
    augment: jax.Array
    gradient: jax.Array

    @classmethod
    def of(cls, seeds: Iterable[int]) -> Keys:
        """Those of each seed, along a leading axis."""
        split = [jax.random.split(jax.random.key(seed), len(cls._fields)) for seed in seeds]
        return cls(*jnp.stack(split, axis=1))


def channel_statistics(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over a training set `[N, H, W, C]` of uint8, exact in float64."""
    counts = [np.bincount(pixels[..., c].reshape(-1), minlength=256) for c in range(pixels.shape[-1])]
    values = np.arange(256.0)
    mean = np.array([(n * values).sum() / n.sum() for n in counts])
    square = np.array([(n * values**2).sum() / n.sum() for n in counts])
    return mean.astype(np.float32), np.sqrt(np.maximum(square - mean**2, 1e-6)).astype(np.float32)


def epoch_order(keys: jax.Array, epoch: jax.Array, size: int) -> jax.Array:
    """The order of the training images in one epoch, of each seed: `[seeds, size]` int32."""

    def of_one_seed(key: jax.Array) -> jax.Array:
        return jax.random.permutation(jax.random.fold_in(key, epoch), size).astype(jnp.int32)

    return over_seeds(of_one_seed, "vmap")(keys)


def plain_batch(images: Images, index: jax.Array) -> jax.Array:
    """Images `index` `[B]`, of several replicas one's own part of them, normalised: `[B, H, W, C]` float32."""
    return normalised(images.pixels[own_part(index)], images)


def normalised(pixels: jax.Array, images: Images) -> jax.Array:
    """Some pixels `[B, H, W, C]` of `images`, brought to mean 0 and standard deviation 1, float32."""
    return (pixels.astype(jnp.float32) - images.mean) / images.std


def augmented_batch(images: Images, index: jax.Array, key: jax.Array) -> jax.Array:
    """As `plain_batch`, each image shifted by up to 4 pixels and flipped left to right with probability 1/2.

    What a shift brings in from outside is zero after normalisation, the mean colour. One gather fetches, crops
    and flips.
    """
    _, height, width, _ = images.pixels.shape
    shift_key, flip_key = jax.random.split(key)
    shift = jax.random.randint(shift_key, (2, len(index), 1), -PADDING, PADDING + 1)
    flip = jax.random.bernoulli(flip_key, 0.5, (len(index), 1))
    # drawn for the images of all replicas, so that each image is cut the same however many there are
    index, shift, flip = own_part(index), own_part(shift, 1), own_part(flip)
    rows, columns = jnp.arange(height) + shift[0], jnp.arange(width) + shift[1]  # [B, H], [B, W]
    columns = jnp.where(flip, columns[:, ::-1], columns)
    inside = _within(rows, height)[:, :, None] & _within(columns, width)[:, None, :]
    rows, columns = jnp.clip(rows, 0, height - 1), jnp.clip(columns, 0, width - 1)
    pixels = images.pixels[index[:, None, None], rows[:, :, None], columns[:, None, :]]
    return jnp.where(inside[..., None], normalised(pixels, images), 0.0)


def resized(x: jax.Array, size: int) -> jax.Array:
    """Images `[B, H, W, C]` brought to `[B, size, size, C]`: linear, with the high frequencies taken out first."""
    return jax.image.resize(x, (len(x), size, size, x.shape[-1]), "linear", antialias=True)


def _within(position: jax.Array, size: int) -> jax.Array:
    return (position >= 0) & (position < size)
