"""The data folder: finding images in it, verifying that they are what their name says, and importing into it.

The data folder is `data.dir`, else the environment's APPROXTRAIN_DATA, else the user's cache folder. In it,
data set NAME is looked for in the folder NAME and then in the folder itself. The names `cifar10` and `cifar100` belong
to the official bytes and `shapes` to the images that the program draws; all other images go by a name of their own and
by their own SHA-256.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Any

from approxtrain import disk
from approxtrain.data import array_files, array_record, cifar, hugging_face, image_folder, shapes
from approxtrain.data.dataset import Arrays, Dataset, ImageSet, fingerprint
from approxtrain.errors import ConfigError, DataError

MANIFEST = "manifest.json"
OFFICIAL = ("cifar10", "cifar100")
DRAWN = "shapes"
RESERVED = (*OFFICIAL, DRAWN)
CLASSES = {DRAWN: len(shapes.CLASSES), **{layout.dataset: len(layout.classes) for layout in cifar.LAYOUTS}}
"""How many there are in each."""
OWN = (array_files, array_record, hugging_face, image_folder)
"""What is read where it lies, besides CIFAR's archives and folders: `is_one` recognises it, KIND names it."""


def folder() -> Path:
    """The data folder where `data.dir` names none."""
    if named := os.environ.get("APPROXTRAIN_DATA"):
        return expanded(named)
    if sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local"))
    elif sys.platform == "darwin":
        cache = Path("~/Library/Caches")
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    try:
        return cache.expanduser() / "approxtrain"
    except RuntimeError:  # pathlib's own
        raise ConfigError(
            "You have no home folder, which the data folder would be in: name one, data.dir=PATH or APPROXTRAIN_DATA."
        ) from None


def expanded(path: str | Path) -> Path:
    """`path` with its `~` replaced, which stays where there is no such user, as in a shell."""
    return Path(os.path.expanduser(path))


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn an OSError of the block, which reads images, into a DataError that names the file and says what to do."""
    try:
        yield
    except OSError as error:
        what = f"`{error.filename}`" if error.filename else "The data set"
        raise DataError(
            f"{what} cannot be read: {error.strerror or error}. Make it readable for you, or give another path or name."
        ) from error


def open_named(name: str, directory: str | Path | None = None, channels: int | None = None) -> Dataset:
    """Data set `name`, whatever it is kept as; CIFAR's forms and NumPy's arrays are read, of others no image is.

    `channels` is 1 or 3 where the images are to be converted; None leaves it to them.
    """
    kind, path = _own(name, directory)
    if name in OFFICIAL or kind is None:
        return read(name, directory)
    if kind is array_files:
        return array_files.open_arrays(path)
    opened = {array_record: array_record.open_records, hugging_face: hugging_face.open_saved}
    return opened.get(kind, image_folder.open_folder)(path, channels)


def locate(name: str, directory: str | Path | None) -> Path:
    """The archive or folder of batches of data set `name`; DataError tells the ways to get one."""
    _check_name(name)
    root = _root(directory)
    path = _cifar(name, root)
    if path is not None:
        return path
    kind, own = _own(name, directory)
    if kind is not None:
        raise DataError(
            f"`{own}` is {kind.KIND}, and not `{name}` in CIFAR's form. It needs no import and has no recorded "
            f"checksums; train on it where it lies: data.dir={quote(str(own))} data.name=NAME, with a name of your own."
        )
    official = name in OFFICIAL
    if directory is not None and not root.exists():
        others = ", or leave it out after `approxtrain data fetch`" if official else ""
        raise DataError(
            f"There are no images of `{name}` in `{root}`, because it does not exist: correct data.dir=PATH{others}."
        )
    fetch = "`approxtrain data fetch` downloads them" if official else "`data.name=shapes` needs none"
    option = "" if official else f" --name {name}"
    own_images = "" if official else f": {', '.join(kind.KIND for kind in reversed(OWN))} (docs/data.md)"
    raise DataError(
        f"There are no images of `{name}` in `{root}`. Three ways on: {fetch}; "
        f"`approxtrain data import PATH{option}` copies CIFAR's archive or folder that you have; "
        f"`data.dir=PATH` reads one where it lies{own_images}."
    )


def _root(directory: str | Path | None) -> Path:
    return folder() if directory is None else expanded(directory)


def _cifar(name: str, root: Path) -> Path | None:
    if root.suffix == ".npz":
        return None
    dataset = name if name in OFFICIAL else None
    return cifar.find(root / name, dataset) or cifar.find(root, dataset)


def _own(name: str, directory: str | Path | None) -> tuple[Any, Path]:
    """What kind of images of a user's own (OWN) data set `name` is, and where it lies; None where it is none."""
    root = _root(directory)
    if _cifar(name, root) is None:
        places = [root / name] if directory is None else [root / name, root]
        for path in places:
            for kind in OWN:
                if path.exists() and kind.is_one(path):
                    return kind, path
    return None, root


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError(f"`data.name` (={name!r}) must be letters, digits, '.', '_' and '-', as in a file's name.")


def read(name: str, directory: str | Path | None = None) -> ImageSet:
    """Data set `name`, in a form of CIFAR's, verified. Its `sha256` is that of the decoded images."""
    return _dataset(name, cifar.read(locate(name, directory), _official(name)))


def draw() -> ImageSet:
    """The embedded data set, drawn now."""
    arrays = shapes.draw()
    splits = Arrays(*arrays[:2]), Arrays(*arrays[2:])
    return ImageSet(DRAWN, "drawn by approxtrain", fingerprint(*arrays), shapes.CLASSES, *splits)


def count_train(name: str, directory: str | Path | None) -> int | None:
    """Number of training images of a form of CIFAR's, from sizes alone; None where these do not tell it."""
    if name in OFFICIAL:
        return cifar.TRAIN_IMAGES
    path = _cifar(name, _root(directory))
    for layout in cifar.LAYOUTS:
        files = [path / file for file in layout.files[:-1]] if path and layout.suffix else []
        if files and all(file.is_file() for file in files):
            return sum(file.stat().st_size for file in files) // layout.record
    return None


def is_cifar(name: str, directory: str | Path | None) -> bool:
    """Whether data set `name` has CIFAR's form, by its name or by its files."""
    return name in OFFICIAL or _cifar(name, _root(directory)) is not None


@explained()
def verify(name: str, directory: str | Path | None = None) -> tuple[str, list[cifar.Check]]:
    """Hash the images again: where they came from, and each checksum beside the expected one. DataError."""
    if name == DRAWN:
        drawn = draw()
        return drawn.source, [cifar.Check("drawn images sha256", shapes.SHA256, drawn.sha256)]
    path = locate(name, directory)
    batches = cifar.read(path, _official(name))
    checks = cifar.official_checks(batches) if name in OFFICIAL else _own_checks(batches)
    if all(check.passed for check in checks):  # bytes that changed may not even decode
        actual = fingerprint(*cifar.decode(batches))
        checks.append(cifar.Check("decoded images sha256", _manifest(path)["sha256"], actual))
    return str(path), checks


@explained()
def add(source: Path, name: str | None = None, directory: str | Path | None = None) -> ImageSet:
    """Verify an archive or folder and copy its batches, byte for byte, into the data folder, with a manifest.

    Without a name they must be the official ones. The folder appears complete or not at all.
    """
    if name is not None:
        _check_name(name)
    if name == DRAWN:
        raise ConfigError(f"`{DRAWN}` is the name of the images that the program draws; choose another one.")
    source = expanded(source)
    path = cifar.find(source)
    if path is None:
        kind = next((kind for kind in OWN if source.exists() and kind.is_one(source)), None)
        if kind is not None:
            raise DataError(
                f"`{source}` is {kind.KIND}, which needs no import. Train on it where it lies: "
                f"approxtrain train data.dir={quote(str(source))} data.name={name or 'NAME'}"
            )
        raise DataError(f"`{source}` is neither an archive nor a folder of CIFAR batches, nor does it hold one.")
    batches = cifar.read(path, _official(name))
    name = name or batches.layout.dataset
    dataset = _dataset(name, batches)
    root = _root(directory)
    target = root / name / batches.layout.folder
    if cifar.find(root / name) is None:
        _write(target, batches, dataset)
    elif read(name, root).sha256 != dataset.sha256:
        raise DataError(
            f"`{root / name}` holds other images already. Remove it, or give these another name: --name NAME."
        )
    return dataset


def _official(name: str | None) -> tuple[str, ...]:
    """The data sets whose official bytes are meant by a name, or by none."""
    return OFFICIAL if name is None else (name,) if name in OFFICIAL else ()


def _dataset(name: str, batches: cifar.Batches) -> ImageSet:
    if name in OFFICIAL and batches.layout.dataset != name:
        raise DataError(f"`{batches.path}` holds {batches.layout.dataset}, and not `{name}`: data.name says which.")
    checks = cifar.official_checks(batches) if name in OFFICIAL else _own_checks(batches)
    failed = next((check for check in checks if not check.passed), None)
    if failed is not None:
        remedy = (
            "If they are another version of the images, give them a name of their own: data.name=NAME "
            "(--name NAME to import). If not, get a fresh copy: `approxtrain data fetch`."
            if name in OFFICIAL
            else "They changed since they were imported: remove the folder and import them again."
        )
        raise DataError(
            f"`{batches.path}` does not hold the bytes of `{name}`: {failed.what} should be "
            f"{failed.expected}, and is {failed.actual}. {remedy}"
        )
    arrays = cifar.decode(batches)
    splits = Arrays(*arrays[:2]), Arrays(*arrays[2:])
    return ImageSet(name, str(batches.path), fingerprint(*arrays), batches.layout.classes, *splits)


def _own_checks(batches: cifar.Batches) -> list[cifar.Check]:
    """Checks of images of another origin, against the manifest that `data import` wrote beside them, if any."""
    if batches.archive_sha256 is not None:
        return [cifar.Check(f"{batches.path.name} sha256", None, batches.archive_sha256)]
    recorded = _manifest(batches.path)["files"]
    return [
        cifar.Check(f"{file} sha256", recorded.get(file), hashlib.sha256(content).hexdigest())
        for file, content in zip(batches.layout.files, batches.contents, strict=True)
    ]


def _manifest(path: Path) -> dict[str, Any]:
    """What `data import` noted of the images in the folder: the digest of each of `files`, and `sha256` of them all."""
    file = path / MANIFEST
    if not file.is_file():
        return {"files": {}, "sha256": None}
    try:
        noted = json.loads(file.read_text(encoding="utf-8"))
        if not all(isinstance(digest, str) for digest in (noted["sha256"], *noted["files"].values())):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"`{file}` is damaged: it is not what `data import` writes. Import the images again, or remove it: they "
            "are then not checked."
        ) from error
    return noted


def _write(target: Path, batches: cifar.Batches, dataset: ImageSet) -> None:
    files = dict(zip(batches.layout.files, batches.contents, strict=True))
    manifest = {
        "name": dataset.name,
        "source": batches.path.name,
        "source_sha256": batches.archive_sha256,
        "sha256": dataset.sha256,
        "train": len(dataset.train),
        "test": len(dataset.validation),
        "files": {file: hashlib.sha256(content).hexdigest() for file, content in files.items()},
    }
    temporary = target.with_name(f".import-{os.getpid()}")
    with disk.explained(target):
        disk.make_folders(target.parent)
        shutil.rmtree(temporary, ignore_errors=True)  # of a process of this number that was killed
        try:
            temporary.mkdir()
            for file, content in {**files, MANIFEST: json.dumps(manifest, indent=2).encode()}.items():
                (temporary / file).write_bytes(content)
                disk.sync(temporary / file)
            disk.sync(temporary)
            temporary.rename(target)
            disk.sync(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
