"""A folder of images by class, the convention of everybody:

pets/train/cat/a.png   pets/val/cat/b.jpg      (or valid/, validation/, test/: the first of them that there is)
pets/cat/a.png                                 (one split: `data.holdout` says how many of it validate)
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from approxtrain.data import pictures
from approxtrain.errors import DataError

KIND = "a folder of images by class"
ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_VALIDATION = ("val", "valid", "validation", "test")
_SAMPLE = 100
"""How many headers say whether the images have colours."""


@dataclass(frozen=True)
class Files:
    """A split: image files, in the order of their names, and the number of the class of each."""

    folder: Path
    names: tuple[str, ...]
    """CLASS/FILE of each, as text: all of them are sent to each process that reads, and paths are slow and large."""
    labels: np.ndarray
    channels: int

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        with pictures.opened(self.path(index)) as picture:
            return pictures.decode(picture, self.channels, self.place(index)), int(self.labels[index])

    def path(self, index: int) -> Path:
        return self.folder / self.names[index]

    def place(self, index: int, where: str = "") -> str:
        return f"`{self.path(index)}`"


@dataclass(frozen=True)
class ImageFolder:
    """What `open_folder` finds; a `Dataset`."""

    path: Path
    class_names: tuple[str, ...]
    train: Files
    validation: Files | None
    validated_on: str

    @property
    def source(self) -> str:
        return str(self.path)

    @property
    def test(self) -> Files | None:
        """The images of test/, whatever is validated on. DataError where they are of other classes."""
        folder = self.path / "test"
        if self.path == _train(self.path) or not folder.is_dir():
            return None
        return _split(folder, self.class_names, self.train.channels, _train(self.path))

    def listing_sha256(self) -> str:
        """Over the names and sizes of all files: all that can be had without reading gigabytes."""
        digest = hashlib.sha256()
        for split in filter(None, (self.train, self.validation)):
            start = f"{split.folder.name}/" if split.folder != self.path else ""
            for name in split.names:
                digest.update(f"{start}{name}\0{os.stat(f'{split.folder}/{name}').st_size}\0".encode())
        return digest.hexdigest()


def is_one(path: Path) -> bool:
    return path.is_dir() and any(_images(folder) for folder in _classes(_train(path)))


def open_folder(path: Path, channels: int | None = None) -> ImageFolder:
    """The images below `path`, none of them read. DataError where a class is empty or not to be trained on."""
    train = _train(path)
    of_class = {folder.name: _images(folder) for folder in _classes(train)}
    if empty := [name for name, files in of_class.items() if not files]:
        raise DataError(f"`{train / empty[0]}` holds no image ({', '.join(sorted(ENDINGS))}). Fill or remove it.")
    names = tuple(of_class)
    split = _files(train, of_class, channels or 0)
    channels = channels or _channels(split)
    other = next((path / name for name in _VALIDATION if train != path and (path / name).is_dir()), None)
    validation = None if other is None else _split(other, names, channels, train)
    validated_on = "test" if other == path / "test" else "validation"
    return ImageFolder(path, names, replace(split, channels=channels), validation, validated_on)


def _split(folder: Path, names: tuple[str, ...], channels: int, train: Path) -> Files:
    if unknown := {of_class.name for of_class in _classes(folder)} - set(names):
        raise DataError(f"`{folder}` has the class {min(unknown)!r}, which `{train}` has not.")
    return _files(folder, {name: _images(folder / name) for name in names}, channels)


def _train(path: Path) -> Path:
    return path / "train" if (path / "train").is_dir() else path


def _classes(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _files(folder: Path, of_class: dict[str, list[str]], channels: int) -> Files:
    labels = np.repeat(np.arange(len(of_class), dtype=np.int32), [len(files) for files in of_class.values()])
    names = tuple(f"{name}/{file}" for name, files in of_class.items() for file in files)
    return Files(folder, names, labels, channels)


def _images(folder: Path) -> list[str]:
    """The image files in a folder and below it, by their names from there on, in the order of these."""
    found = []
    for place, _, files in os.walk(folder):
        inside = os.path.relpath(place, folder).replace(os.sep, "/")
        start = "" if inside == "." else f"{inside}/"
        found += [start + file for file in files if file[0] != "." and os.path.splitext(file)[1].lower() in ENDINGS]
    return sorted(found, key=lambda name: name.split("/"))


def _channels(split: Files) -> int:
    """1 where a sample, evenly spaced, has no colours."""
    for index in range(0, len(split), -(-len(split) // _SAMPLE)):
        try:
            with pictures.opened(split.path(index)) as picture:
                if picture.mode not in pictures.GRAY:
                    return 3
        except pictures.UNREADABLE:
            continue  # it is reported when it is read
    return 1
