"""A folder in which every file operation can be made to fail, to be the last one, or to be forgotten at a power cut.

Python's own operations are watched where they reach the kernel: `os.*`, and each write of a file that `open` gives.
What is not flushed (`fsync`) is remembered as such: the content of files, and the names in folders. Linux only.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest import mock

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
ALLOWED = ("unlink", "rmdir", "read")
"""What a disk that is full or read-only still does."""


class Crash(BaseException):
    """The process ends here: nothing may catch it, and no file operation follows."""


@dataclass(frozen=True)
class Fault:
    """What happens at file operation `at`, counted from 0."""

    at: int
    error: int | None = None
    """The number of an OSError; None: the process ends."""
    for_ever: bool = False
    """Whether all that follows but what frees space fails as well."""


@dataclass(eq=False)
class File:
    path: Path
    durable: bytes = b""
    """The content at its last flush."""
    gone: bool = False
    """Whether it has no name any more."""

    def content(self, power: Power) -> bytes:
        """What is left of it after a power cut."""
        if power.data == "lost":
            return self.durable
        now = self.durable if self.gone else self.path.read_bytes()
        if now == self.durable:
            return now
        # what was flushed and only added to stays
        cut = power.draw.randint(len(self.durable) if now.startswith(self.durable) else 0, len(now))
        zeros = now[:cut] + bytes(len(now) - cut)  # a file may have its length before its content
        return power.draw.choice([self.durable, now, now[:cut], zeros])


@dataclass(eq=False)
class Folder:
    past: list[dict[str, File | Folder]] = field(default_factory=lambda: [{}])
    """Its names at the last flush, and after each change since."""

    @property
    def names(self) -> dict[str, File | Folder]:
        return self.past[-1]

    def change(self, without: str, **named: File | Folder) -> None:
        """One change: a name goes, or another comes, or both."""
        for name in {without, *named} & self.names.keys():
            node = self.names[name]
            if isinstance(node, File) and node not in named.values():
                node.gone = True
        self.past.append({name: each for name, each in self.names.items() if name != without} | named)

    def left(self, power: Power) -> dict[str, File | Folder]:
        """The names that a power cut leaves."""
        if power.names == "drawn":
            return power.draw.choice(self.past)
        return self.past[0 if power.names == "lost" else -1]


@dataclass(frozen=True)
class Power:
    """What a power cut does to what was not flushed: names in folders, and the content of files."""

    names: Literal["lost", "kept", "drawn"]
    data: Literal["lost", "drawn"]
    draw: random.Random


class FaultyDisk:
    """Watches the folder `root`, in which all is taken for flushed at first. Use it as `with disk.watched(): …`."""

    def __init__(self, root: Path, fault: Fault | None = None) -> None:
        self.root, self.fault = root.resolve(), fault
        self.done: list[str] = []
        """Each operation, "rename checkpoints/.tmp-step-00000003"."""
        self.ended = False
        self.tree = self._read(self.root)
        names = ("open", "fsync", "mkdir", "rename", "replace", "unlink", "remove", "rmdir")
        self._real: dict[str, Any] = {name: getattr(os, name) for name in names}

    @contextmanager
    def watched(self) -> Iterator[FaultyDisk]:
        ours: dict[str, Any] = {name: getattr(self, f"_{name}") for name in self._real}
        with (
            mock.patch.multiple(os, **ours),
            mock.patch.object(io, "open", self._open_file),
            mock.patch.object(builtins, "open", self._open_file),
        ):
            yield self

    def cut_power(self, power: Power) -> None:
        """Leave of the folder what a power cut leaves. Call it when nothing is watched any more."""
        left = list(self._left(self.tree, Path(), power))
        shutil.rmtree(self.root)
        self.root.mkdir()
        for path, content in left:
            if content is None:
                (self.root / path).mkdir(exist_ok=True)
            else:
                (self.root / path).write_bytes(content)

    def _left(self, folder: Folder, path: Path, power: Power) -> Iterator[tuple[Path, bytes | None]]:
        yield path, None
        for name, node in folder.left(power).items():
            if isinstance(node, Folder):
                yield from self._left(node, path / name, power)
            else:
                yield path / name, node.content(power)

    def _read(self, path: Path) -> Folder:
        found = path.iterdir()
        return Folder([{at.name: self._read(at) if at.is_dir() else File(at, at.read_bytes()) for at in found}])

    def point(self, what: str, path: Path, half: Callable[[], object] = lambda: None) -> None:
        """An operation is about to happen; `half` does a part of it, which is what a fault leaves of it."""
        if self.ended:
            raise Crash
        number, fault = len(self.done), self.fault
        self.done.append(f"{what} {path.relative_to(self.root)}")
        if fault is None or number < fault.at or (number > fault.at and not (fault.for_ever and what not in ALLOWED)):
            return
        half()
        if fault.error is None:
            self.ended = True
            raise Crash
        raise OSError(fault.error, os.strerror(fault.error), str(path))

    def find(self, path: Path) -> File | Folder | None:
        node: File | Folder | None = self.tree
        for part in path.relative_to(self.root).parts:
            node = node.names.get(part) if isinstance(node, Folder) else None
        return node

    def _folder(self, path: Path) -> Folder:
        folder = self.find(path.parent)
        assert isinstance(folder, Folder), path
        return folder

    def _inside(self, path: Any, dir_fd: int | None = None) -> Path | None:
        """The path, where it lies in the watched folder."""
        if isinstance(path, int):
            place = os.readlink(f"/proc/self/fd/{path}")
        else:
            base = os.getcwd() if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
            place = os.path.normpath(os.path.join(base, os.fsdecode(path)))
        found = Path(place)
        return found if found != self.root and found.is_relative_to(self.root) else None

    def _note(self, path: Path) -> None:
        if path.is_file() and self.find(path) is None:
            self._folder(path).change("", **{path.name: File(path)})

    def _open_file(self, file: Any, mode: str = "r", buffering: int = -1, *text: Any, **more: Any) -> Any:
        path = None if isinstance(file, int) else self._inside(file)
        writes = bool(set(mode) & set("wax+"))
        if path is not None and (writes or path.exists()):
            self.point("open" if writes else "read", path)
        if path is None or not writes:
            return _OPEN(file, mode, buffering, *text, **more)
        raw = _Watched(path, mode.replace("t", "").replace("b", "") + "b", self)
        self._note(path)
        if "b" in mode and buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *text, **more)

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        inside = self._inside(path, dir_fd)
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if inside is not None and (writes or inside.exists()):
            self.point("open" if writes else "read", inside)
        descriptor = self._real["open"](path, flags, mode, dir_fd=dir_fd)
        if inside is not None and writes:
            self._note(inside)
        return descriptor

    def _fsync(self, descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        path = Path(os.readlink(f"/proc/self/fd/{number}"))
        if not path.is_relative_to(self.root):
            return
        self.point("fsync", path)
        node = self.find(path)
        if isinstance(node, Folder):
            node.past = [node.names]
        elif node is not None:
            node.durable = path.read_bytes()

    def _mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        inside = self._inside(path, dir_fd)
        if inside is not None and not inside.exists() and inside.parent.is_dir():
            self.point("mkdir", inside)
        self._real["mkdir"](path, mode, dir_fd=dir_fd)
        if inside is not None:
            self._folder(inside).change("", **{inside.name: Folder()})

    def _rename(self, source: Any, target: Any, **folders: Any) -> None:
        self._moved("rename", source, target, folders)

    def _replace(self, source: Any, target: Any, **folders: Any) -> None:
        self._moved("replace", source, target, folders)

    def _moved(self, name: str, source: Any, target: Any, folders: dict[str, Any]) -> None:
        old, new = self._inside(source), self._inside(target)
        if old is not None:
            self.point(name, old)
        self._real[name](source, target, **folders)
        if old is None or new is None:
            return
        node, parent = self.find(old), self._folder(old)
        assert node is not None
        assert self._folder(new) is parent, "only within one folder are the two names of a rename one change"
        parent.change(old.name, **{new.name: node})
        _place(node, new)

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._removed("unlink", path, dir_fd)

    def _remove(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._removed("unlink", path, dir_fd)

    def _rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._removed("rmdir", path, dir_fd)

    def _removed(self, name: str, path: Any, dir_fd: int | None) -> None:
        inside = self._inside(path, dir_fd)
        if inside is not None and os.path.lexists(inside):
            self.point(name, inside)
        self._real[name](path, dir_fd=dir_fd)
        if inside is not None:
            self._folder(inside).change(inside.name)


_OPEN = io.open


def _place(node: File | Folder, path: Path) -> None:
    """Tell the files below that they are found at `path` now."""
    if isinstance(node, File):
        node.path = path
    else:
        for name, each in node.names.items():
            _place(each, path / name)


class _Watched(io.FileIO):
    """A file that is written to, unbuffered."""

    def __init__(self, path: Path, mode: str, disk: FaultyDisk) -> None:
        super().__init__(str(path), mode)
        self._place, self._disk = path, disk

    def write(self, data: Any, /) -> int:
        content = bytes(data)
        write = super().write
        self._disk.point("write", self._place, lambda: write(content[: len(content) // 2]))
        return write(content)

    def truncate(self, size: int | None = None, /) -> int:
        self._disk.point("truncate", self._place)
        return super().truncate(size)
