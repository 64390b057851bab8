"""The official forms of CIFAR-10 and CIFAR-100, read where they lie: nothing is extracted, nothing is unpickled, no
link is followed out of an archive.

    cifar-10-binary.tar.gz    cifar-10-batches-bin/data_batch_1.bin   label, 1024 red, 1024 green, 1024 blue …
    cifar-10-python.tar.gz    cifar-10-batches-py/data_batch_1        a pickle of the same labels and pixels
    cifar-100-binary.tar.gz   cifar-100-binary/train.bin              coarse label, fine label, pixels …
    cifar-100-python.tar.gz   cifar-100-python/train                  a pickle of the same

[Krizhevsky 2009](https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf). What identifies them is in
`cifar_layouts`.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from approxtrain.data import cifar_layouts, pickles, tar_files
from approxtrain.data.cifar_layouts import Layout
from approxtrain.errors import DataError

LAYOUTS = cifar_layouts.LAYOUTS
ARCHIVES = " or ".join(layout.archive for layout in LAYOUTS)
TRAIN_IMAGES = 50_000

_LARGEST_BATCH = 2**30  # bytes; so that a hostile archive or a sparse file cannot fill the memory


@dataclass(frozen=True)
class Batches:
    """The files as bytes, in the order of the layout, and the SHA-256 of the archive, if any."""

    path: Path
    layout: Layout
    contents: tuple[bytes, ...]
    """None of an archive that was to be the official one, and is not: it was not opened."""
    archive_sha256: str | None = None


@dataclass(frozen=True)
class Check:
    """A checksum or size beside what it should be. `expected` is None where nothing was recorded."""

    what: str
    expected: str | None
    actual: str

    @property
    def passed(self) -> bool:
        return self.expected in (None, self.actual)


def find(path: Path, dataset: str | None = None) -> Path | None:
    """The archive, or the folder of batches, that `path` is or holds; of that data set only, where one is named."""
    layouts = [layout for layout in LAYOUTS if dataset in (None, layout.dataset)]
    if path.is_file() or any((path / file).is_file() for layout in layouts for file in layout.files):
        return path
    inside = [path / layout.folder for layout in layouts] + [path / layout.archive for layout in layouts]
    return next((path for path in inside if path.exists()), None)


def read(path: Path, official: Sequence[str] = ()) -> Batches:
    """The files of an archive or a folder, whatever their checksums. DataError where it is neither.

    With `official`, names of data sets, an archive is opened only if its own SHA-256 is an official one.
    """
    try:
        return _read_folder(path) if path.is_dir() else _read_archive(path, official)
    except OSError as error:
        raise DataError(f"`{path}` cannot be read: {error.strerror or error}.") from error


def official_checks(batches: Batches) -> list[Check]:
    """The batches against the official checksums: of the archive where there is one, else of each file."""
    layout = batches.layout
    if batches.archive_sha256 is not None:
        return [Check(f"{layout.archive} sha256", layout.archive_sha256, batches.archive_sha256)]
    checks = []
    sizes = layout.batch_bytes or tuple(map(len, batches.contents))
    for file, content, digest, size in zip(layout.files, batches.contents, layout.digests, sizes, strict=True):
        if size != len(content):
            checks.append(Check(f"{file} bytes", f"{size:,}", f"{len(content):,}"))
        actual = hashlib.new(layout.algorithm, content, usedforsecurity=False).hexdigest()
        checks.append(Check(f"{file} {layout.algorithm}", digest, actual))
    return checks


def decode(batches: Batches) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Train images and labels, test images and labels: uint8 [n,32,32,3] and int32 [n]."""
    parts = [
        _decode_batch(batches, file, content)
        for file, content in zip(batches.layout.files, batches.contents, strict=True)
    ]
    return (*_joined(parts[:-1]), *_joined(parts[-1:]))


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    planes = np.concatenate([pixels for pixels, _ in parts]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([labels for _, labels in parts]).astype(np.int32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def _decode_batch(batches: Batches, file: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    where = f"`{file}` in `{batches.path}`"
    layout = batches.layout
    if layout.suffix:
        if not content or len(content) % layout.record:
            raise DataError(
                f"{where} has {len(content):,} bytes, not a whole number of {layout.record:,}-byte records: it is "
                "cut off, or not of this format. Get a fresh copy."
            )
        records = np.frombuffer(content, np.uint8).reshape(-1, layout.record)
        pixels, labels = records[:, layout.label_bytes :], records[:, layout.label_bytes - 1]
    else:
        try:
            pixels, labels = pickles.read_batch(content, layout.labels)
        except (ValueError, IndexError) as error:
            raise DataError(f"{where} is not a batch of the Python archive: {error}. Get a fresh copy.") from error
    classes = len(layout.classes)
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        raise DataError(f"{where} has the label {outside[0]}; labels are 0 to {classes - 1}. Get a fresh copy.")
    return pixels, labels


def _read_folder(path: Path) -> Batches:
    layout = next((a for a in LAYOUTS if any((path / file).is_file() for file in a.files)), None)
    if layout is None:
        raise DataError(f"`{path}` holds no batch of CIFAR, such as `{LAYOUTS[0].files[0]}`.")
    missing = [file for file in layout.files if not (path / file).is_file()]
    if missing:
        raise DataError(f"`{path}` is incomplete: {', '.join(missing)} missing. Get a fresh copy.")
    if large := [file for file in layout.files if (path / file).stat().st_size > _LARGEST_BATCH]:
        raise DataError(f"`{path / large[0]}` is larger than 1 GiB, and no batch of CIFAR is. Get a fresh copy.")
    return Batches(path, layout, tuple((path / file).read_bytes() for file in layout.files))


def _read_archive(path: Path, official: Sequence[str]) -> Batches:
    with path.open("rb") as file:
        head = file.read(512).lstrip()
        if head[:2] != b"\x1f\x8b":
            what = "a web page, saved in place of the archive" if head[:1] == b"<" else "no gzip file"
            raise DataError(f"`{path}` is {what}. It should be {ARCHIVES}; fetch it again.")
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        if official and sha256 not in [layout.archive_sha256 for layout in LAYOUTS]:
            layouts = [layout for layout in LAYOUTS if layout.dataset in official]
            meant = next((layout for layout in layouts if layout.archive == path.name), layouts[0])
            return Batches(path, meant, (), sha256)
        try:
            members = tar_files.read(file, {f"{layout.folder}/{name}" for layout in LAYOUTS for name in layout.files})
        except tar_files.RefusedError as error:
            raise DataError(f"`{path}` is not read: it holds {error}. Get a fresh copy.") from error
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            raise DataError(
                f"`{path}` is damaged or cut off ({error}); its SHA-256 is {sha256}. Fetch it again."
            ) from error
    for layout in LAYOUTS:
        wanted = [f"{layout.folder}/{file}" for file in layout.files]
        if all(name in members for name in wanted):
            return Batches(path, layout, tuple(members[name] for name in wanted), sha256)
    raise DataError(
        f"`{path}` lacks the batches of {' or '.join(f'`{layout.folder}/`' for layout in LAYOUTS)}; "
        f"of those it has {', '.join(members) or 'none'}."
    )
