"""A folder of images by class, the convention of everybody:

pets/train/cat/a.png   pets/val/cat/b.jpg      (or valid/, validation/, test/: the first of them that there is)
pets/cat/a.png                                 (one split: `data.holdout` says how many of it validate)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
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

    paths: tuple[Path, ...]
    labels: np.ndarray
    channels: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        with pictures.opened(self.paths[index]) as picture:
            return pictures.decode(picture, self.channels, self.place(index)), int(self.labels[index])

    def place(self, index: int, where: str = "") -> str:
        return f"`{self.paths[index]}`"


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
        for file in (*self.train.paths, *(self.validation.paths if self.validation else ())):
            digest.update(f"{file.relative_to(self.path).as_posix()}\0{file.stat().st_size}\0".encode())
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
    channels = channels or _channels([file for files in of_class.values() for file in files])
    split = next((path / name for name in _VALIDATION if train != path and (path / name).is_dir()), None)
    validation = None if split is None else _split(split, names, channels, train)
    validated_on = "test" if split == path / "test" else "validation"
    return ImageFolder(path, names, _files(list(of_class.values()), channels), validation, validated_on)


def _split(folder: Path, names: tuple[str, ...], channels: int, train: Path) -> Files:
    if unknown := {of_class.name for of_class in _classes(folder)} - set(names):
        raise DataError(f"`{folder}` has the class {min(unknown)!r}, which `{train}` has not.")
    return _files([_images(folder / name) for name in names], channels)


def _train(path: Path) -> Path:
    return path / "train" if (path / "train").is_dir() else path


def _classes(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _files(of_class: list[list[Path]], channels: int) -> Files:
    labels = np.repeat(np.arange(len(of_class), dtype=np.int32), [len(files) for files in of_class])
    return Files(tuple(file for files in of_class for file in files), labels, channels)


def _images(folder: Path) -> list[Path]:
    return sorted(
        file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS and not file.name.startswith(".")
    )


def _channels(files: list[Path]) -> int:
    """1 where a sample, evenly spaced, has no colours."""
    for file in files[:: -(-len(files) // _SAMPLE)]:
        try:
            with pictures.opened(file) as picture:
                if picture.mode not in pictures.GRAY:
                    return 3
        except pictures.UNREADABLE:
            continue  # it is reported when it is read
    return 1
