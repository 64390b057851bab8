"""CIFAR-10's two official forms, read where they lie: nothing is extracted, nothing is unpickled, no link is
followed out of an archive.

    cifar-10-binary.tar.gz   cifar-10-batches-bin/data_batch_1.bin   label, 1024 red, 1024 green, 1024 blue …
    cifar-10-python.tar.gz   cifar-10-batches-py/data_batch_1        a pickle of the same labels and pixels

[Krizhevsky 2009](https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf). An official archive is
known by its SHA-256, a folder by the digest of each file (SHA-1 as pinned by MXNet's first reader, MD5 by
torchvision's).
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from dataclasses import dataclass
from gzip import GzipFile
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from approxtrain.data import pickles
from approxtrain.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
RECORD = 1 + pickles.PIXELS  # bytes of one image in the binary form
TRAIN_IMAGES = 50_000

_LARGEST_BATCH = 2**30  # bytes; so that a hostile archive cannot fill the memory


@dataclass(frozen=True)
class Layout:
    """One official form: its archive, its folder, and what identifies each."""

    archive: str
    archive_bytes: int
    archive_sha256: str
    folder: str
    suffix: str
    algorithm: str
    digests: tuple[str, ...]
    batch_bytes: int | None = None
    """Exact size of each official file, where all are of one size."""

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(f"{batch}{self.suffix}" for batch in BATCHES)


BINARY = Layout(
    archive="cifar-10-binary.tar.gz",
    archive_bytes=170_052_171,
    archive_sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    folder="cifar-10-batches-bin",
    suffix=".bin",
    algorithm="sha1",
    digests=(
        "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
        "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
        "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
        "aab85764eb3584312d3c7f65fd2fd016e36a258e",
        "26e2849e66a845b7f1e4614ae70f4889ae604628",
        "67eb016db431130d61cd03c7ad570b013799c88c",
    ),
    batch_bytes=10_000 * RECORD,
)
PYTHON = Layout(
    archive="cifar-10-python.tar.gz",
    archive_bytes=170_498_071,
    archive_sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    folder="cifar-10-batches-py",
    suffix="",
    algorithm="md5",
    digests=(
        "c99cafc152244af753f735de768cd75f",
        "d4bba439e000b95fd0a9bffe97cbabec",
        "54ebc095f3ab1f0389bbae665268c751",
        "634d18415352ddfa80567beed471001a",
        "482c414d41f54cd18b22e5b47cb7c3cb",
        "40351d587109b95175f43aff81a1287e",
    ),
)
LAYOUTS = (BINARY, PYTHON)


@dataclass(frozen=True)
class Batches:
    """The six files as bytes, in the order of BATCHES, and the SHA-256 of the archive, if any."""

    path: Path
    layout: Layout
    contents: tuple[bytes, ...]
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


def find(path: Path) -> Path | None:
    """The archive, or the folder of batches, that `path` is or holds."""
    if path.is_file() or any((path / file).is_file() for layout in LAYOUTS for file in layout.files):
        return path
    inside = [path / layout.folder for layout in LAYOUTS] + [path / layout.archive for layout in LAYOUTS]
    return next((path for path in inside if path.exists()), None)


def read(path: Path) -> Batches:
    """The six files of an archive or a folder, whatever their checksums. DataError where it is neither."""
    try:
        return _read_folder(path) if path.is_dir() else _read_archive(path)
    except OSError as error:
        raise DataError(f"`{path}` cannot be read: {error.strerror or error}.") from error


def official_checks(batches: Batches) -> list[Check]:
    """The batches against the official checksums: of the archive where there is one, else of each file."""
    layout = batches.layout
    if batches.archive_sha256 is not None:
        return [Check(f"{layout.archive} sha256", layout.archive_sha256, batches.archive_sha256)]
    checks = []
    for file, content, digest in zip(layout.files, batches.contents, layout.digests, strict=True):
        if layout.batch_bytes not in (None, len(content)):
            checks.append(Check(f"{file} bytes", f"{layout.batch_bytes:,}", f"{len(content):,}"))
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
    if batches.layout.suffix == BINARY.suffix:
        if not content or len(content) % RECORD:
            raise DataError(
                f"{where} has {len(content):,} bytes, not a whole number of {RECORD:,}-byte records: it is "
                "cut off, or not of this format. Get a fresh copy."
            )
        records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
        pixels, labels = records[:, 1:], records[:, 0]
    else:
        try:
            pixels, labels = pickles.read_batch(content)
        except (ValueError, IndexError) as error:
            raise DataError(f"{where} is not a batch of the Python archive: {error}. Get a fresh copy.") from error
    outside = labels[(labels < 0) | (labels >= len(CLASSES))]
    if outside.size:
        raise DataError(f"{where} has the label {outside[0]}; labels are 0 to {len(CLASSES) - 1}. Get a fresh copy.")
    return pixels, labels


def _read_folder(path: Path) -> Batches:
    layout = next((a for a in LAYOUTS if any((path / file).is_file() for file in a.files)), None)
    if layout is None:
        raise DataError(f"`{path}` holds no batch of CIFAR-10, such as `{BINARY.files[0]}` or `{PYTHON.files[0]}`.")
    missing = [file for file in layout.files if not (path / file).is_file()]
    if missing:
        raise DataError(f"`{path}` is incomplete: {', '.join(missing)} missing. Get a fresh copy.")
    return Batches(path, layout, tuple((path / file).read_bytes() for file in layout.files))


def _read_archive(path: Path) -> Batches:
    with path.open("rb") as file:
        head = file.read(512).lstrip()
        if head[:2] != b"\x1f\x8b":
            what = "a web page, saved in place of the archive" if head[:1] == b"<" else "no gzip file"
            raise DataError(f"`{path}` is {what}. It should be {BINARY.archive} or {PYTHON.archive}; fetch it again.")
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        try:
            members = _members(path, file)
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            raise DataError(
                f"`{path}` is damaged or cut off ({error}); its SHA-256 is {sha256}. Fetch it again."
            ) from error
    for layout in LAYOUTS:
        wanted = [f"{layout.folder}/{file}" for file in layout.files]
        if all(name in members for name in wanted):
            return Batches(path, layout, tuple(members[name] for name in wanted), sha256)
    raise DataError(
        f"`{path}` lacks the six batches of `{BINARY.folder}/` or `{PYTHON.folder}/`; "
        f"of those it has {', '.join(members) or 'none'}."
    )


def _members(path: Path, file: BinaryIO) -> dict[str, bytes]:
    """Contents of the members that are batches, in one pass to the end, where gzip's own checksum stands."""
    wanted = {f"{layout.folder}/{name}" for layout in LAYOUTS for name in layout.files}
    contents: dict[str, bytes] = {}
    with GzipFile(fileobj=file) as raw, tarfile.open(fileobj=raw, mode="r|") as tar:
        for member in tar:
            _refuse_unless_plain(path, member)
            if member.name not in wanted:
                continue
            stream = tar.extractfile(member)
            if member.name in contents or member.size > _LARGEST_BATCH or stream is None:
                raise DataError(f"`{path}` holds `{member.name}` twice, as no file, or larger than 1 GiB.")
            contents[member.name] = stream.read()
        while raw.read(1 << 20):
            pass
    return contents


def _refuse_unless_plain(path: Path, member: tarfile.TarInfo) -> None:
    """Files and folders with names inside the archive's own folder are all that an official archive holds."""
    name = PurePosixPath(member.name)
    plain = member.isdir() or (member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse())
    if not plain or name.is_absolute() or ".." in name.parts:
        raise DataError(f"`{path}` holds `{member.name}`, a link, a device or a path out of the archive: not read.")
