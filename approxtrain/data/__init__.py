"""Data sets: `shapes`, drawn by the program; `cifar10`, the official bytes; and other images under names of
their own.

    dataset = data.load(config.data)
    steps_per_epoch = data.train_size(config.data) // config.train.batch_size

Only `approxtrain.data.fetch` uses the network. Imports no jax.
"""

from __future__ import annotations

from typing import Protocol

from approxtrain.data import shapes, store
from approxtrain.data.dataset import Dataset, check_holdout, first, set_aside
from approxtrain.errors import ConfigError

__all__ = ["Dataset", "load", "train_size"]


class DataConfig(Protocol):
    """The `[data]` table of a configuration."""

    @property
    def name(self) -> str: ...
    @property
    def dir(self) -> str | None: ...
    @property
    def holdout(self) -> int: ...
    @property
    def limit(self) -> int | None: ...


def load(config: DataConfig) -> Dataset:
    """The images of the `[data]` table, verified, with its holdout taken, down to its limit. DataError, ConfigError."""
    whole = store.draw() if _is_drawn(config) else store.read(config.name, config.dir)
    return first(set_aside(whole, config.holdout), config.limit)


def train_size(config: DataConfig) -> int:
    """Number of images to train on: holdout taken off, down to the limit.

    Reads no image, but for an archive of your own.
    """
    whole = shapes.TRAIN if _is_drawn(config) else store.count_train(config.name, config.dir)
    check_holdout(config.holdout, whole)
    return min(whole - config.holdout, config.limit or whole)


def _is_drawn(config: DataConfig) -> bool:
    if config.name == store.DRAWN and config.dir is not None:
        raise ConfigError(
            f"`data.dir` (={config.dir!r}) has no use with data.name=shapes, whose images the program draws: "
            "leave it out, or say which images these are: data.name=cifar10, or a name of your own."
        )
    return config.name == store.DRAWN
