"""From any `Dataset` to what a run takes: named, identified, its holdout taken, and decoded where it is small."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from typing import Any, Literal, Protocol

import numpy as np

from approxtrain.data import holdout
from approxtrain.data.dataset import Arrays, Dataset, ImageSet, fingerprint, take
from approxtrain.data.pictures import UNREADABLE
from approxtrain.data.reading import RESIZE, BrokenImageError, Reader
from approxtrain.errors import ConfigError, DataError

GIB = 2**30
_SAMPLE = 32
"""How many training images say the size of all, evenly spaced."""


class DataConfig(Protocol):
    """The `[data]` table of a configuration."""

    @property
    def name(self) -> str: ...
    @property
    def dir(self) -> str | None: ...
    @property
    def target(self) -> str | None: ...
    @property
    def arguments(self) -> dict[str, Any]: ...
    @property
    def holdout(self) -> int: ...
    @property
    def limit(self) -> int | None: ...
    @property
    def image_size(self) -> int | None: ...
    @property
    def channels(self) -> Literal[1, 3] | None: ...
    @property
    def broken(self) -> str: ...
    @property
    def memory(self) -> float: ...
    @property
    def stream(self) -> bool | None: ...


def prepare(dataset: Dataset, config: DataConfig, name: str) -> ImageSet:
    """The images of `dataset` as the `[data]` table wants them. DataError, ConfigError.

    A set that fits into `data.memory` is decoded, whole, and known by the SHA-256 of what was decoded. A larger one is
    cut to its holdout and limit first; where it still does not fit, it is streamed.
    """
    whole = _described(dataset, config, name)
    if _fits(whole, config):
        return _cut(_decoded(whole, config), config)
    cut = _cut(replace(whole, sha256=whole.sha256 or _unread_sha256(dataset, whole)), config)
    return _decoded(cut, config) if _fits(cut, config) else replace(cut, streamed=True)


def count_train(whole: int, config: DataConfig) -> int:
    """How many of the `whole` training images there are to train on: holdout taken off, down to the limit."""
    holdout.check_holdout(config.holdout, whole)
    return min(whole - config.holdout, config.limit or whole)


def tested(images: ImageSet, whole: Dataset, config: DataConfig) -> ImageSet:
    """The set `images`, prepared from `whole`, with the test images of that in place of what it validates on.

    DataError where there are none.
    """
    test = getattr(whole, "test", None)
    if test is None and getattr(whole, "validated_on", "validation") == "test":
        test = whole.validation
    if not test:
        raise DataError(
            f"`{images.name}` has no test images (in a folder of images: test/ beside train/). Evaluate those that it "
            "validates on (--split validation), or others: data.dir=FOLDER."
        )
    found = replace(images, validation=test, validated_on="test")
    if not images.streamed:
        found = replace(found, validation=_array(readers(found, config)[1], config.broken == "skip", []))
    return holdout.first(found, config.limit)


def _described(dataset: Dataset, config: DataConfig, name: str) -> ImageSet:
    """The data set as it is, with what is known of it before its images are read, and the shape that they will have."""
    if missing := [part for part in ("class_names", "train") if not hasattr(dataset, part)]:
        raise ConfigError(f"The data set `{name}` ({type(dataset).__name__}) has no `{missing[0]}`: see docs/data.md.")
    if not len(dataset.train):
        raise DataError(f"`{name}` has no image to train on.")
    validation = getattr(dataset, "validation", None)
    if not validation and not config.holdout:
        raise ConfigError(
            f"`{name}` has no images to validate on (in a folder: val/, valid/, validation/ or test/ beside train/): "
            "set some of the training images aside, data.holdout=N."
        )
    images = ImageSet(
        name=name,
        source=getattr(dataset, "source", type(dataset).__name__),
        sha256=getattr(dataset, "sha256", ""),
        class_names=tuple(dataset.class_names),
        train=dataset.train,
        validation=validation or take(dataset.train, np.arange(0)),
        validated_on=getattr(dataset, "validated_on", "validation"),
    )
    return replace(images, image_shape=_shape(images, config))


def _shape(images: ImageSet, config: DataConfig) -> tuple[int, int, int]:
    """As `data.image_size` says, else that of a sample of the training images."""
    reader = Reader(images.train, _training(images), len(images.class_names))
    found: dict[tuple[int, ...], int] = {}
    count = len(images.train)
    for index in range(0, count, -(-count // _SAMPLE)):
        try:
            found.setdefault(reader.whole(index)[0].shape, index)
        except BrokenImageError:
            if config.broken != "skip":
                raise
    if not found:
        raise DataError(f"None of the images of `{images.name}` that were tried can be read.")
    (height, width, channels), *others = found
    if config.image_size:
        return config.image_size, config.image_size, channels
    if others:
        first, other = (
            f"{reader.what(index)} is {'×'.join(map(str, shape))}" for shape, index in list(found.items())[:2]
        )
        raise DataError(f"The images of `{images.name}` differ in size: {first}, {other}. {RESIZE}")
    return height, width, channels


def _fits(images: ImageSet, config: DataConfig) -> bool:
    """Whether both splits are to be held in memory, decoded."""
    if config.stream is not None:
        return not config.stream
    return (len(images.train) + len(images.validation)) * math.prod(images.image_shape) <= config.memory * GIB


def _cut(images: ImageSet, config: DataConfig) -> ImageSet:
    return holdout.first(holdout.set_aside(images, config.holdout), config.limit)


def readers(images: ImageSet, config: DataConfig) -> tuple[Reader, Reader]:
    """Of the images to train on and to validate on, by which each comes in the shape that the network gets."""
    common = {"classes": len(images.class_names), "shape": images.image_shape, "resize": config.image_size is not None}
    return Reader(images.train, _training(images), **common), Reader(images.validation, _validating(images), **common)


def _training(images: ImageSet) -> str:
    return f"the training images of `{images.name}`"


def _validating(images: ImageSet) -> str:
    return f"the images of `{images.name}` to validate on"


def _decoded(images: ImageSet, config: DataConfig) -> ImageSet:
    """The set in memory, with the SHA-256 of its images where it had none."""
    skipped: list[str] = []
    train, validation = (_array(reader, config.broken == "skip", skipped) for reader in readers(images, config))
    if images.validation and not len(validation):
        raise DataError(f"None of {_validating(images)} can be read.")
    sha256 = images.sha256 or fingerprint(train.images, train.labels, validation.images, validation.labels)
    return replace(images, train=train, validation=validation, sha256=sha256, skipped=tuple(skipped))


def _array(reader: Reader, skip: bool, skipped: list[str]) -> Arrays:
    """A split, decoded; what is broken is noted in `skipped`, and left out."""
    split, shape = reader.split, reader.shape
    assert shape is not None
    if isinstance(split, Arrays) and split.images.shape[1:] == shape:
        if len(split) and not 0 <= split.labels.min() <= split.labels.max() < reader.classes:
            raise DataError(f"The labels of {reader.where} are not those of {reader.classes} classes.")
        return split
    pixels, labels = np.empty((len(split), *shape), np.uint8), np.empty(len(split), np.int32)
    kept = 0
    for index in range(len(split)):
        try:
            pixels[kept], labels[kept] = reader(index)
            kept += 1
        except BrokenImageError:
            if not skip:
                raise
            skipped.append(reader.what(index))
    return Arrays(pixels[:kept], labels[:kept])


def _unread_sha256(dataset: Dataset, images: ImageSet) -> str:
    """Of a set that is too large to be read: of the list of its files, else of a sample of its images."""
    if listing := getattr(dataset, "listing_sha256", None):
        return listing()
    count = len(images.train)
    numbers = range(0, count, -(-count // _SAMPLE))
    read: list[np.ndarray] = []
    for index in numbers:
        with contextlib.suppress(*UNREADABLE):  # `_shape` has refused it already unless it is to be skipped
            read += map(np.asarray, images.train[index])
    return fingerprint(np.array([count, len(images.validation)]), *read)
