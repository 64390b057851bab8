"""Images set aside from the training split to validate on, and the limit of a trial."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from approxtrain.data.dataset import Arrays, ImageSet, Split, labels_of, take
from approxtrain.data.raw_stream import RawStream
from approxtrain.errors import ConfigError

_HOLDOUT_SEED = 2019


def set_aside(images: ImageSet, count: int) -> ImageSet:
    """The data set with `count` training images in place of the test split; 0 leaves it as it is.

    They are the last of one fixed permutation of the training split (seed 2019, whatever the run's seed is),
    so every run validates on the same images and a smaller holdout is part of a larger one. The permutation
    is stratified: it spreads each class evenly, so the holdout has the class shares of the split to within
    one image a class.
    """
    check_holdout(count, len(images.train))
    if not count:
        return images
    order = _stratified_permutation(labels_of(images.train))
    train, held = np.sort(order[:-count]), order[-count:]
    return replace(images, train=take(images.train, train), validation=take(images.train, held), validated_on="holdout")


def first(images: ImageSet, count: int | None) -> ImageSet:
    """The data set with the first `count` images of either split; all of them where it has no more, or with None."""
    if count is None:
        return images
    return replace(images, train=_first(images.train, count), validation=_first(images.validation, count))


def _first(split: Split, count: int) -> Split:
    if isinstance(split, Arrays):
        return Arrays(split.images[:count], split.labels[:count])  # without a copy
    return take(split, np.arange(min(count, len(split))))


def check_holdout(count: int, train_images: int) -> None:
    """ConfigError unless at least one image is left to train on."""
    if not 0 <= count < train_images:
        raise ConfigError(
            f"`data.holdout` (={count}) must lie between 0 and {train_images - 1}: it is taken from the "
            f"{train_images} training images, and at least one must remain."
        )


def _stratified_permutation(labels: np.ndarray) -> np.ndarray:
    shuffled = np.argsort(RawStream(_HOLDOUT_SEED).words(len(labels)), kind="stable")
    position = np.empty(len(labels))  # in the permutation, as a share of it
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels[shuffled] == label)
        position[of_class] = (np.arange(len(of_class)) + 0.5) / len(of_class)
    return shuffled[np.argsort(position, kind="stable")]
