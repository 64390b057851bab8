"""The images of a split, one by one: checked, of the size that the network gets, named in an error.

Worker processes run this, so it imports no jax.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from approxtrain.data.dataset import Split
from approxtrain.data.pictures import UNREADABLE, fit, random_view
from approxtrain.errors import ApproxtrainError, DataError
from approxtrain.models.target import MEND, in_words, place

RESIZE = "`data.image_size=N` resizes them to N×N, the shorter side first, and takes the middle."
_PATIENCE = 100
"""Broken images on end after which no more are tried."""


class BrokenImageError(DataError):
    """An image that cannot be read; the message names it."""


@dataclass(frozen=True)
class Reader:
    """Reads the images of a split, checked, and of the shape that the network gets."""

    split: Split
    where: str
    """What the split is called in an error."""
    classes: int
    shape: tuple[int, int, int] | None = None
    """None: as they are."""
    resize: bool = False
    """Whether an image of another size is brought to `shape`; else it is an error."""

    def whole(self, index: int) -> tuple[np.ndarray, int]:
        """Image `index`, uint8 `[H, W, C]` of its own size, and its label. BrokenImageError, or DataError where a check
        fails."""
        what = self.what(index)
        try:
            image, label = self.split[index]
        except UNREADABLE as error:
            why = in_words(error) if place(error) else str(error)
            raise BrokenImageError(
                f"{what} cannot be read: {why}. Mend or remove it, or leave out what is broken: data.broken=skip."
            ) from error
        except ApproxtrainError:
            raise
        except Exception as error:
            raise DataError(f"{what} cannot be read: {in_words(error)}. {MEND}") from error
        image = np.asarray(image)
        image = image[..., None] if image.ndim == 2 else image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
            raise DataError(f"{what} is {image.dtype} {list(image.shape)}, and not uint8 [H, W, C] with C = 1 or 3.")
        if not 0 <= label < self.classes:
            raise DataError(
                f"{what} has the label {label}; those of {self.classes} classes are 0 to {self.classes - 1}."
            )
        if self.shape is not None and (
            image.shape[2] != self.shape[2] or (not self.resize and image.shape != self.shape)
        ):
            raise DataError(
                f"{what} is {_size(image.shape)}, and others are {_size(self.shape)}: "
                + ("images have all one channel or all three." if self.resize else RESIZE)
            )
        return image, int(label)

    def __call__(self, index: int) -> tuple[np.ndarray, int]:
        """As `whole`, of the size that the network gets."""
        image, label = self.whole(index)
        return (image if self.shape is None else fit(image, (self.shape[0], self.shape[1]))), label

    def what(self, index: int) -> str:
        """The name of an image: its file, where it has one."""
        place = getattr(self.split, "place", None)
        return f"image {index} of {self.where}" if place is None else place(index, self.where)


@dataclass(frozen=True)
class View:
    """What a batch is made of: an image as it comes into the network, its label, whether it counts, and what was
    skipped in its place (the number of the image + 1, or 0).
    """

    reader: Reader
    skip: bool
    """Whether a broken image is left out; else it is an error."""
    smallest: float | None = None
    """Least share of the area in a random part; None: the whole image, its middle where it is resized."""

    def random(self, index: int, draw: np.random.Generator) -> dict[str, Any]:
        """To train on. In the place of a broken image comes the next one that is not, so that batches stay full."""
        count = len(self.reader.split)
        for number in range(index, index + _PATIENCE):
            try:
                image, label = self.reader.whole(number % count)
            except BrokenImageError:
                if not self.skip:
                    raise
                continue
            size = self._shape[0], self._shape[1]
            image = fit(image, size) if self.smallest is None else random_view(image, size, self.smallest, draw)
            return _element(image, label, skipped=0 if number == index else index + 1)
        raise DataError(f"None of {_PATIENCE} images from {self.reader.what(index)} on can be read.")

    def plain(self, index: int) -> dict[str, Any]:
        """To validate on. A broken image does not count."""
        try:
            return _element(*self.reader(index))
        except BrokenImageError:
            if not self.skip:
                raise
            return _element(np.zeros(self._shape, np.uint8), 0, counts=0, skipped=index + 1)

    def sums(self, index: int) -> np.ndarray:
        """int64 `[3, C]`: over the pixels of an image how many there are, their values and their squares."""
        element = self.plain(index)
        pixels = element["pixels"].reshape(-1, self._shape[2]).astype(np.int64) * element["counts"]
        return np.stack([np.full(self._shape[2], len(pixels) * element["counts"]), pixels.sum(0), (pixels**2).sum(0)])

    @property
    def _shape(self) -> tuple[int, int, int]:
        assert self.reader.shape is not None
        return self.reader.shape


def _element(image: np.ndarray, label: int, *, counts: int = 1, skipped: int = 0) -> dict[str, Any]:
    numbers = {"label": label, "counts": counts, "skipped": skipped}
    return {"pixels": image, **{name: np.int32(number) for name, number in numbers.items()}}


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
