"""Data sets: `shapes`, drawn by the program; CIFAR's official bytes; images of a user's own, of any size, in a folder
by class, ArrayRecord files, NumPy's files or a Hugging Face data set; and whatever is a `Dataset`.

    images = data.load(config.data)
    steps_per_epoch = data.train_size(config.data) // config.train.batch_size

Only `approxtrain.data.fetch` uses the network. Imports no jax.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np

from approxtrain.data import prepare, shapes, store
from approxtrain.data.dataset import Arrays, Dataset, ImageSet, Split, take
from approxtrain.data.pictures import UNREADABLE
from approxtrain.data.prepare import DataConfig
from approxtrain.errors import ConfigError, DataError
from approxtrain.models.target import imported, in_own_code, place

__all__ = ["Arrays", "Dataset", "ImageSet", "Split", "load", "shape", "tested", "train_size", "undivided"]


def load(config: DataConfig, dataset: Dataset | None = None) -> ImageSet:
    """The images of the `[data]` table, or those of `dataset`, which is then not looked for: checked, the holdout
    taken, down to the limit. DataError, ConfigError.
    """
    if isinstance(dataset, ImageSet):
        return dataset  # loaded already
    if dataset is None:
        with _explained(config):
            return prepare.prepare(_find(config), config, config.name)
    fallback = type(dataset).__name__ if config.name in store.RESERVED else config.name
    return prepare.prepare(dataset, config, getattr(dataset, "name", fallback))


def undivided(config: DataConfig) -> ImageSet | None:
    """Of a set that is not divided, such as a folder of classes: all images to validate on, and one to train on."""
    with _explained(config):
        found = _find(config)
        if getattr(found, "validation", None):
            return None
        first = take(found.train, np.arange(1))
        return prepare.prepare(_Undivided(found.class_names, first, found.train), config, config.name)


class _Undivided(NamedTuple):
    """A set that validates on nearly all that it has."""

    class_names: Sequence[str]
    train: Split
    validation: Split


def tested(images: ImageSet, config: DataConfig) -> ImageSet:
    """What `load` gave, with the test images to validate on. DataError where there are none."""
    if images.validated_on == "test":
        return images
    with _explained(config):
        return prepare.tested(images, _find(config), config)


def train_size(config: DataConfig) -> int:
    """Number of images to train on: holdout taken off, down to the limit.

    Reads no image, but for arrays and for an archive of your own.
    """
    with _explained(config):
        count = None
        if not config.target:
            count = shapes.TRAIN if _is_drawn(config) else store.count_train(config.name, config.dir)
        return prepare.count_train(len(_find(config).train) if count is None else count, config)


def shape(config: DataConfig) -> tuple[tuple[int, int, int], int | None] | None:
    """Rows, columns and channels of what the network gets, by the first image alone, and the number of classes.

    None where the images are not there; no number of classes where all images would have to be read for it.
    """
    try:
        with _explained(config):
            if not config.target and (_is_drawn(config) or store.is_cifar(config.name, config.dir)):
                first, classes = (32, 32, 3), store.CLASSES.get(config.name)
            else:
                found = _find(config)
                first, classes = np.shape(found.train[0][0]), len(found.class_names)
    except (DataError, *UNREADABLE):
        return None
    height, width, channels = first if len(first) == 3 else (*first, 1)
    return (config.image_size or height, config.image_size or width, channels), classes


def _find(config: DataConfig) -> Dataset:
    if config.target:
        return _own(config, config.target)
    return store.draw() if _is_drawn(config) else store.open_named(config.name, config.dir, config.channels)


def _own(config: DataConfig, target: str) -> Dataset:
    if config.name in store.RESERVED:
        raise ConfigError(f"`data.name` (={config.name!r}) is not that of `data.target`: give data.name=NAME with it.")
    own = imported(target, "data.target")
    try:
        return own(**config.arguments)
    except TypeError as error:
        if place(error):
            raise  # of their own code, which could be called
        raise ConfigError(f"`data.target`: {target} cannot be called with `data.arguments`: {error}") from error


def _explained(config: DataConfig) -> AbstractContextManager[None]:
    """What cannot be read becomes a DataError, and so does all that a data set of the user's own raises."""
    own = in_own_code(f"`data.target`: {config.target} cannot be read", error=DataError)
    return own if config.target else store.explained()


def _is_drawn(config: DataConfig) -> bool:
    if config.name == store.DRAWN and config.dir is not None:
        raise ConfigError(
            f"`data.dir` (={config.dir!r}) has no use with data.name=shapes, whose images the program draws: "
            "leave it out, or say which images these are: data.name=cifar10, or a name of your own."
        )
    return config.name == store.DRAWN
