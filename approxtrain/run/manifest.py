"""A manifest that vouches for every byte of a folder: size and SHA-256 of each file, and a seal over itself.

`seal`            SHA-256 of the rest of the manifest
`format`, `step`  1, and the number of steps finished
`arrays`          [path, shape, type] of each array, in the order of the tree
`files`           name → [size, SHA-256] of each file but this one
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from approxtrain import disk

NAME = "MANIFEST.json"
_FORMAT = 1


class Unusable(Exception):
    """Why a checkpoint is passed over."""


def write(folder: Path, step: int, arrays: list[list[Any]]) -> None:
    """Flush every file and folder of `folder` to the disk; its manifest is written last."""
    files = {}
    for name, path in _files(folder).items():
        disk.sync(path)
        files[name] = [path.stat().st_size, _sha256(path)]
    content = {"format": _FORMAT, "step": step, "arrays": arrays, "files": files}
    (folder / NAME).write_text(to_json({"seal": _seal(content), **content}))
    disk.sync(folder / NAME)
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir():
            disk.sync(path)


def verify(folder: Path, step: int, arrays: list[list[Any]]) -> None:
    """Raise Unusable unless `folder` is whole, byte for byte, and holds `arrays` after `step` steps."""
    content = _read(folder / NAME)
    if (found := (content["format"], content["step"])) != (_FORMAT, step):
        raise Unusable(f"{NAME} is of format and step {found}, not {(_FORMAT, step)}")
    present = _files(folder)
    for name in sorted(present.keys() ^ content["files"].keys()):
        raise Unusable(f"{name} does not belong to it" if name in present else f"{name} is missing")
    for name, (size, digest) in content["files"].items():
        if (found := present[name].stat().st_size) != size:
            raise Unusable(f"{name} has {found} bytes, not {size}")
        if _sha256(present[name]) != digest:
            raise Unusable(f"{name} is damaged: its SHA-256 is not the one in {NAME}")
    for stored, wanted in zip(content["arrays"], arrays, strict=False):
        if stored != wanted:
            raise Unusable(f"it holds {_words(*stored)} where this run has {_words(*wanted)}")
    if len(content["arrays"]) != len(arrays):
        raise Unusable(f"it holds {len(content['arrays'])} arrays where this run has {len(arrays)}")


def to_json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _read(path: Path) -> dict[str, Any]:
    """What the manifest says besides its seal, which is checked."""
    if not path.is_file():
        raise Unusable(f"{NAME} is missing")
    try:
        content = json.loads(path.read_bytes())
        if content.pop("seal") == _seal(content):
            return content
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise Unusable(f"{NAME} is damaged")


def _seal(content: dict[str, Any]) -> str:
    return hashlib.sha256(to_json(content).encode()).hexdigest()


def _files(folder: Path) -> dict[str, Path]:
    """Name → path of every file but the manifest."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / NAME)
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _words(path: str, shape: list[int], dtype: str) -> str:
    return f"{path} {dtype}[{','.join(map(str, shape))}]"
