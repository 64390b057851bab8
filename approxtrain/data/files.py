"""Pictures that are given one by one, as a trained network takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from approxtrain.data import pictures
from approxtrain.data.image_folder import ENDINGS
from approxtrain.errors import DataError


def image_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files at `paths`; of a folder all images in it and below it. DataError where there is none."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS)
        if not inside:
            raise DataError(f"`{path}` holds no image ({', '.join(sorted(ENDINGS))}).")
        yield from inside


def read(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """The picture as uint8 `[H, W, C]` of this shape, resized by its shorter side and cut to its middle. DataError."""
    try:
        with pictures.opened(path) as picture:
            wanted = picture.convert("L") if shape[2] == 1 else picture
            return pictures.fit(pictures.decode(wanted, shape[2], f"`{path}`"), shape[:2])
    except pictures.UNREADABLE as error:
        raise DataError(f"`{path}` cannot be read as a picture: {error}.") from error
