"""The data folder: finding images in it, verifying that they are what their name says, and importing into it.

The data folder is `data.dir`, else the environment's APPROXTRAIN_DATA, else the user's cache folder. In it,
data set NAME is looked for in the folder NAME and then in the folder itself. The name `cifar10` belongs to
the official bytes and `shapes` to the images that the program draws; all other images go by a name of their
own and by their own SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

from approxtrain import disk
from approxtrain.data import cifar, shapes
from approxtrain.data.dataset import Dataset, fingerprint
from approxtrain.errors import ConfigError, DataError

MANIFEST = "manifest.json"
OFFICIAL = "cifar10"
DRAWN = "shapes"


def folder() -> Path:
    """The data folder where `data.dir` names none."""
    if named := os.environ.get("APPROXTRAIN_DATA"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local"))
    elif sys.platform == "darwin":
        cache = Path("~/Library/Caches")
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return cache.expanduser() / "approxtrain"


def locate(name: str, directory: str | Path | None) -> Path:
    """The archive or folder of batches of data set `name`; DataError tells the ways to get one."""
    _check_name(name)
    root = folder() if directory is None else Path(directory).expanduser()
    path = cifar.find(root / name) or cifar.find(root)
    if path is None:
        official = name == OFFICIAL
        fetch = "`approxtrain data fetch` downloads them" if official else "`data.name=shapes` needs none"
        option = "" if official else f" --name {name}"
        raise DataError(
            f"There are no images of `{name}` in `{root}`. Three ways on: {fetch}; "
            f"`approxtrain data import PATH{option}` copies an archive or folder that you have; "
            "`data.dir=PATH` reads one where it lies."
        )
    return path


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError(f"`data.name` (={name!r}) must be letters, digits, '.', '_' and '-', as in a file's name.")


def read(name: str, directory: str | Path | None = None) -> Dataset:
    """Data set `name`, verified. Its `sha256` is that of the decoded images."""
    return _dataset(name, cifar.read(locate(name, directory)))


def draw() -> Dataset:
    """The embedded data set, drawn now."""
    arrays = shapes.draw()
    return Dataset(DRAWN, "drawn by approxtrain", fingerprint(*arrays), shapes.CLASSES, *arrays)


def count_train(name: str, directory: str | Path | None) -> int:
    """Number of training images, from sizes alone where they tell it."""
    if name == OFFICIAL:
        return cifar.TRAIN_IMAGES
    path = locate(name, directory)
    files = [path / file for file in cifar.BINARY.files[:-1]]
    if all(file.is_file() for file in files):
        return sum(file.stat().st_size for file in files) // cifar.RECORD
    return len(read(name, directory).train_labels)


def verify(name: str, directory: str | Path | None = None) -> tuple[str, list[cifar.Check]]:
    """Hash the images again: where they came from, and each checksum beside the expected one. DataError."""
    if name == DRAWN:
        drawn = draw()
        return drawn.source, [cifar.Check("drawn images sha256", shapes.SHA256, drawn.sha256)]
    path = locate(name, directory)
    batches = cifar.read(path)
    checks = cifar.official_checks(batches) if name == OFFICIAL else _own_checks(batches)
    if all(check.passed for check in checks):  # bytes that changed may not even decode
        actual = fingerprint(*cifar.decode(batches))
        checks.append(cifar.Check("decoded images sha256", _manifest(path).get("sha256"), actual))
    return str(path), checks


def add(source: Path, name: str | None = None, directory: str | Path | None = None) -> Dataset:
    """Verify an archive or folder and copy its batches, byte for byte, into the data folder, with a manifest.

    Without a name they must be the official ones. The folder appears complete or not at all.
    """
    name = OFFICIAL if name is None else name
    _check_name(name)
    if name == DRAWN:
        raise ConfigError(f"`{DRAWN}` is the name of the images that the program draws; choose another one.")
    path = cifar.find(source.expanduser())
    if path is None:
        raise DataError(f"`{source}` is neither an archive nor a folder of CIFAR-10 batches, nor does it hold one.")
    batches = cifar.read(path)
    dataset = _dataset(name, batches)
    root = folder() if directory is None else Path(directory).expanduser()
    target = root / name / batches.layout.folder
    if cifar.find(root / name) is None:
        _write(target, batches, dataset)
    elif read(name, root).sha256 != dataset.sha256:
        raise DataError(
            f"`{root / name}` holds other images already. Remove it, or give these another name: --name NAME."
        )
    return dataset


def _dataset(name: str, batches: cifar.Batches) -> Dataset:
    checks = cifar.official_checks(batches) if name == OFFICIAL else _own_checks(batches)
    failed = next((check for check in checks if not check.passed), None)
    if failed is not None:
        remedy = (
            "If they are another version of the images, give them a name of their own: data.name=NAME "
            "(--name NAME to import). If not, get a fresh copy: `approxtrain data fetch`."
            if name == OFFICIAL
            else "They changed since they were imported: remove the folder and import them again."
        )
        raise DataError(
            f"`{batches.path}` does not hold the bytes of `{name}`: {failed.what} should be "
            f"{failed.expected}, and is {failed.actual}. {remedy}"
        )
    arrays = cifar.decode(batches)
    return Dataset(name, str(batches.path), fingerprint(*arrays), cifar.CLASSES, *arrays)


def _own_checks(batches: cifar.Batches) -> list[cifar.Check]:
    """Checks of images of another origin, against the manifest that `data import` wrote beside them, if any."""
    if batches.archive_sha256 is not None:
        return [cifar.Check(f"{batches.path.name} sha256", None, batches.archive_sha256)]
    recorded = _manifest(batches.path).get("files", {})
    return [
        cifar.Check(f"{file} sha256", recorded.get(file), hashlib.sha256(content).hexdigest())
        for file, content in zip(batches.layout.files, batches.contents, strict=True)
    ]


def _manifest(path: Path) -> dict:
    file = path / MANIFEST
    if not file.is_file():
        return {}
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"`{file}` is damaged: {error}. Remove the folder and import the images again.") from error


def _write(target: Path, batches: cifar.Batches, dataset: Dataset) -> None:
    files = dict(zip(batches.layout.files, batches.contents, strict=True))
    manifest = {
        "name": dataset.name,
        "source": batches.path.name,
        "source_sha256": batches.archive_sha256,
        "sha256": dataset.sha256,
        "train": len(dataset.train_labels),
        "test": len(dataset.test_labels),
        "files": {file: hashlib.sha256(content).hexdigest() for file, content in files.items()},
    }
    temporary = target.with_name(f".import-{os.getpid()}")
    with disk.explained(target):
        try:
            temporary.mkdir(parents=True)
            for file, content in {**files, MANIFEST: json.dumps(manifest, indent=2).encode()}.items():
                (temporary / file).write_bytes(content)
                disk.sync(temporary / file)
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
