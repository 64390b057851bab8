"""What training reads: four arrays, the data set's name, and the SHA-256 that says which bytes they were."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from approxtrain.data.raw_stream import RawStream
from approxtrain.errors import ConfigError

_HOLDOUT_SEED = 2019


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images are uint8 [n,32,32,3] (rows, columns, red-green-blue), labels int32 [n] into `class_names`."""

    name: str
    source: str
    """Where the images came from: a path, or "drawn by approxtrain"."""
    sha256: str
    """Digest (`fingerprint`) of all decoded images and labels, holdout or not, however they were packed."""
    class_names: tuple[str, ...]
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    validation: Literal["test", "holdout"] = "test"
    """What `test_images` are: the test split, or images set aside from the training split."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.train_images.shape[1:]
        return height, width, channels

    @property
    def identity(self) -> dict[str, str]:
        """Name and SHA-256: what a run is bound to."""
        return {"name": self.name, "sha256": self.sha256}


def fingerprint(*arrays: np.ndarray) -> str:
    """SHA-256 over each array's type, shape and bytes in row-major order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def set_aside(dataset: Dataset, count: int) -> Dataset:
    """The data set with `count` training images in place of the test split; 0 leaves it as it is.

    They are the last of one fixed permutation of the training split (seed 2019, whatever the run's seed is),
    so every run validates on the same images and a smaller holdout is part of a larger one. The permutation
    is stratified: it spreads each class evenly, so the holdout has the class shares of the split to within
    one image a class.
    """
    check_holdout(count, len(dataset.train_labels))
    if not count:
        return dataset
    order = _stratified_permutation(dataset.train_labels)
    train, held = np.sort(order[:-count]), order[-count:]
    return replace(
        dataset,
        train_images=dataset.train_images[train],
        train_labels=dataset.train_labels[train],
        test_images=dataset.train_images[held],
        test_labels=dataset.train_labels[held],
        validation="holdout",
    )


def first(dataset: Dataset, count: int | None) -> Dataset:
    """The data set with the first `count` images of either split; all of them where it has no more, or with None."""
    if count is None:
        return dataset
    return replace(
        dataset,
        train_images=dataset.train_images[:count],
        train_labels=dataset.train_labels[:count],
        test_images=dataset.test_images[:count],
        test_labels=dataset.test_labels[:count],
    )


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
