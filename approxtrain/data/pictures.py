"""One image, by Pillow: decoded, brought to a size, cut at random."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from approxtrain.errors import DataError

GRAY = ("1", "L", "LA")
COLOURED = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
"""Pillow's modes that can be decoded to bytes of one or three channels without a loss of depth."""

UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
"""What Pillow raises on a damaged file; also on one that would fill the memory, by its own limit."""


class _Bounded(io.BufferedReader):
    """A file that makes no room for what it does not have: a length in a damaged PNG may be of gigabytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(os.fstat(self.fileno()).st_size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The picture in a file, to be decoded inside. UNREADABLE where it is none; a device is none."""
    with _Bounded(io.FileIO(path)) as file, Image.open(file) as picture:
        yield picture


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
