"""One image, by Pillow: decoded, brought to a size, cut at random; and the words for one that is broken.

Worker processes run this, so it imports no jax.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from approxtrain.data.dataset import Split
from approxtrain.errors import DataError

GRAY = ("1", "L", "LA")
COLOURED = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
"""Pillow's modes that can be decoded to bytes of one or three channels without a loss of depth."""

UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
"""What Pillow raises on a damaged file; also on one that would fill the memory, by its own limit."""


class BrokenImageError(DataError):
    """An image that cannot be read; the message names it."""


def decode(picture: Image.Image, channels: int, what: str) -> np.ndarray:
    """uint8 `[H, W, channels]` of a picture that was opened; DataError where it is of another kind."""
    if picture.mode not in GRAY + COLOURED:
        raise DataError(
            f"{what} has pixels of Pillow's mode {picture.mode!r}, and not of 8 bits in 1 or 3 channels: convert it."
        )
    if channels == 1 and picture.mode not in GRAY:
        raise DataError(f"{what} has colours, and the images before it have none: say data.channels=3.")
    pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return pixels[..., None] if channels == 1 else pixels


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
            raise BrokenImageError(
                f"{what} cannot be read: {error}. Mend or remove it, or leave out what is broken: data.broken=skip."
            ) from error
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


RESIZE = "`data.image_size=N` resizes them to N×N, the shorter side first, and takes the middle."


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def fit(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image `[H, W, C]` resized until its shorter side fits, and then its middle: `[*size, C]`."""
    if image.shape[:2] == size:
        return image
    height, width = size
    return _array(ImageOps.fit(_picture(image), (width, height), Image.Resampling.BILINEAR))


def random_view(image: np.ndarray, size: tuple[int, int], smallest: float, draw: np.random.Generator) -> np.ndarray:
    """A random part of the image `[H, W, C]`, resized to `[*size, C]`, and flipped left to right with probability 1/2.

    The part has `smallest` to all of the area and a ratio of its sides between 3/4 and 4/3, as in
    [Szegedy et al. 2014](https://arxiv.org/abs/1409.4842); where that does not fit in, it is cut to what does.
    """
    height, width, _ = image.shape
    area, ratio = height * width * draw.uniform(smallest, 1), math.exp(draw.uniform(-1, 1) * math.log(4 / 3))
    wide, high = min(math.sqrt(area * ratio), width), min(math.sqrt(area / ratio), height)
    left, top = draw.uniform(0, width - wide), draw.uniform(0, height - high)
    box = (left, top, left + wide, top + high)
    picture = _picture(image).resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box)
    return _array(ImageOps.mirror(picture) if draw.random() < 0.5 else picture)


def _picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def _array(picture: Any) -> np.ndarray:
    pixels = np.asarray(picture)
    return pixels[..., None] if pixels.ndim == 2 else pixels


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


_PATIENCE = 100
"""Broken images on end after which no more are tried."""


def _element(image: np.ndarray, label: int, *, counts: int = 1, skipped: int = 0) -> dict[str, Any]:
    numbers = {"label": label, "counts": counts, "skipped": skipped}
    return {"pixels": image, **{name: np.int32(number) for name, number in numbers.items()}}
