"""A Hugging Face data set that `save_to_disk` wrote. Needs the package `datasets` (the extra `hf`)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from approxtrain.data import pictures
from approxtrain.errors import DataError

KIND = "a Hugging Face data set"
_VALIDATION = ("validation", "valid", "val", "test")


@dataclass(frozen=True)
class Rows:
    """A split: the columns of images and labels of a `datasets.Dataset`."""

    table: Any
    image: str
    label: str
    channels: int
    name: str

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        row = self.table[int(index)]
        return pictures.decode(row[self.image], self.channels, self.place(index)), int(row[self.label])

    @property
    def labels(self) -> np.ndarray:
        return np.asarray(self.table[self.label][:], np.int32)

    def place(self, index: int, where: str = "") -> str:
        return f"row {index} of {self.name}"


@dataclass(frozen=True)
class HuggingFace:
    """What `open_saved` finds; a `Dataset`."""

    source: str
    class_names: tuple[str, ...]
    train: Rows
    validation: Rows | None
    validated_on: str
    test: Rows | None

    def listing_sha256(self) -> str:
        """Over the fingerprints that the package has for the splits."""
        splits = [split.table._fingerprint for split in (self.train, self.validation) if split is not None]
        return hashlib.sha256("\n".join(splits).encode()).hexdigest()


def is_one(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or (path / "dataset_info.json").is_file()


def open_saved(path: Path, channels: int | None = None) -> HuggingFace:
    """The data set saved at `path`, no image read. DataError where it has no column of images or no classes."""
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise DataError(
            f"`{path}` is a Hugging Face data set, and the package that reads it is not there: pip install datasets."
        ) from None
    found: Any = datasets.load_from_disk(str(path))
    splits: dict[str, Any] = {"train": found} if isinstance(found, datasets.Dataset) else dict(found)
    if "train" not in splits:
        raise DataError(f"`{path}` has no split `train`; it has {', '.join(splits)}.")
    columns = splits["train"].features
    image = next((name for name, kind in columns.items() if isinstance(kind, datasets.Image)), None)
    label = next((name for name, kind in columns.items() if isinstance(kind, datasets.ClassLabel)), None)
    if image is None or label is None:
        held = ", ".join(f"{name} ({type(kind).__name__})" for name, kind in columns.items())
        raise DataError(f"`{path}` needs a column of type Image and one of type ClassLabel; it has {held}.")
    channels = channels or _channels(splits["train"], image)
    rows = {name: Rows(table, image, label, channels, f"`{name}` in `{path}`") for name, table in splits.items()}
    split = next((name for name in _VALIDATION if name in rows), None)
    validated_on = "test" if split == "test" else "validation"
    names, test = tuple(columns[label].names), rows.get("test")
    return HuggingFace(str(path), names, rows["train"], rows.get(split or ""), validated_on, test)


def _channels(table: Any, image: str) -> int:
    """1 where the first picture has no colours."""
    try:
        return 1 if table[0][image].mode in pictures.GRAY else 3
    except pictures.UNREADABLE:
        return 3  # it is reported when it is read
