"""Arrays that NumPy has saved: one .npz with all of them, or a folder with a .npy for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from approxtrain.data import numpy_files
from approxtrain.data.dataset import Arrays
from approxtrain.errors import DataError

KIND = "arrays of NumPy"
NAMES = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels"), ("train_x", "train_y")),
    "validation": (("x_val", "y_val"), ("val_images", "val_labels"), ("x_valid", "y_valid")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels"), ("test_x", "test_y")),
}


@dataclass(frozen=True)
class ArrayFiles:
    """What `open_arrays` finds; a `Dataset`."""

    source: str
    class_names: tuple[str, ...]
    train: Arrays
    validation: Arrays | None
    validated_on: str
    test: Arrays | None


def is_one(path: Path) -> bool:
    return path.suffix == ".npz" if path.is_file() else path.is_dir() and any(path.glob("*.npy"))


def open_arrays(path: Path) -> ArrayFiles:
    """The images of `path`, read. DataError says what it holds, where that is something else."""
    try:
        files = [path] if path.is_file() else sorted(path.glob("*.npy"))
        return _of(path, {name: array for file in files for name, array in numpy_files.read(file).items()})
    except (OSError, numpy_files.UnreadableError) as error:
        raise DataError(f"`{path}` cannot be read: {error}.") from error


def _of(path: Path, found: Mapping[str, np.ndarray]) -> ArrayFiles:
    splits = {split: next((pair for pair in pairs if pair[0] in found), None) for split, pairs in NAMES.items()}
    held = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in found.items()) or "nothing"
    known = " or ".join(", ".join(pair) for pair in NAMES["train"])
    if splits["train"] is None:
        raise DataError(f"`{path}` has no training images: it wants {known}, and holds {held}.")
    arrays = {split: _pair(path, found, *pair, held) for split, pair in splits.items() if pair is not None}
    validated_on = "validation" if "validation" in arrays else "test"
    classes = 1 + max(int(split.labels.max(initial=0)) for split in arrays.values())
    names = tuple(map(str, found.get("class_names", range(classes))))
    splits = arrays["train"], arrays.get(validated_on)
    return ArrayFiles(str(path), names, *splits, validated_on, arrays.get("test"))


def _pair(path: Path, found: Mapping[str, np.ndarray], images: str, labels: str, held: str) -> Arrays:
    x, y = found[images], found.get(labels)
    if y is None:
        raise DataError(f"`{path}` has {images} and no {labels}; it holds {held}.")
    x = x[..., None] if x.ndim == 3 else x
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[3] not in (1, 3):
        raise DataError(
            f"`{images}` in `{path}` is {x.dtype} {list(found[images].shape)}; images are uint8 [N, H, W] or "
            "[N, H, W, C] with C = 1 or 3."
        )
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer) or len(y) != len(x):
        raise DataError(
            f"`{labels}` in `{path}` is {y.dtype} {list(found[labels].shape)}; labels are whole numbers [{len(x)}], "
            "one an image."
        )
    return Arrays(x, y.astype(np.int32))
