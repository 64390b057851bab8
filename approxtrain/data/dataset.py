"""What a data set is: `Dataset`, which anyone can write in ten lines, and `ImageSet`, what a run makes of one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np


class Split(Protocol):
    """Images with their labels, in any order: `split[i]` is (uint8 `[H, W, C]`, number of the class), C = 1 or 3.

    With `labels`, a sequence of all of them, a holdout is taken without an image being read.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[np.ndarray, int]: ...


class Dataset(Protocol):
    """What can be trained on. `validation` may be None, or missing, where `data.holdout` takes images from `train`.

    Besides, it may have a split `test`, which training never reads, a `name`, and a `sha256` that says which images
    these are: where it has none, that of the decoded images is taken, or, where they are too many to be held in memory,
    that of a sample of them.
    """

    @property
    def class_names(self) -> Sequence[str]: ...
    @property
    def train(self) -> Split: ...
    @property
    def validation(self) -> Split | None: ...


@dataclass(frozen=True, eq=False)
class Arrays:
    """A split in memory: images uint8 `[N, H, W, C]`, labels int32 `[N]`."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.images[index], int(self.labels[index])


@dataclass(frozen=True, eq=False)
class Subset:
    """The images of a split that have these numbers."""

    whole: Split
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.whole[int(self.numbers[index])]

    @property
    def labels(self) -> np.ndarray:
        return labels_of(self.whole)[self.numbers]

    def place(self, index: int, where: str) -> str:
        """What an image is called in an error."""
        number, place = int(self.numbers[index]), getattr(self.whole, "place", None)
        return f"image {number} of {where}" if place is None else place(number, where)


def take(split: Split, numbers: np.ndarray) -> Split:
    """The images of a split that have these numbers."""
    if isinstance(split, Arrays):
        return Arrays(split.images[numbers], split.labels[numbers])
    return Subset(split, numbers)


def labels_of(split: Split) -> np.ndarray:
    """All labels `[N]`; the images are read where there is no other way."""
    known = getattr(split, "labels", None)
    return np.array([split[i][1] for i in range(len(split))] if known is None else known)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A data set with a name and the SHA-256 that says which bytes it is. It is a `Dataset` as well."""

    name: str
    source: str
    """Where the images came from: a path, or "drawn by approxtrain"."""
    sha256: str
    """Of a set in memory the digest (`fingerprint`) of all decoded images and labels, holdout or not, however they were
    packed."""
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    validated_on: Literal["test", "holdout", "validation"] = "test"
    """What `validation` is: the test split, images set aside from the training split, or a split made for that."""
    image_shape: tuple[int, int, int] = (32, 32, 3)
    """Rows, columns, channels of what the network gets."""
    streamed: bool = False
    """Whether the images are read while the network trains; else both splits are Arrays."""
    skipped: tuple[str, ...] = ()
    """What is broken and was left out (data.broken="skip"), so far as it is known before training."""

    @property
    def identity(self) -> dict[str, str]:
        """Name and SHA-256: what a run is bound to."""
        return {"name": self.name, "sha256": self.sha256}

    @property
    def arrays(self) -> tuple[Arrays, Arrays]:
        """Both splits of a set that is in memory."""
        assert isinstance(self.train, Arrays)
        assert isinstance(self.validation, Arrays)
        return self.train, self.validation


def fingerprint(*arrays: np.ndarray) -> str:
    """SHA-256 over each array's type, shape and bytes in row-major order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
