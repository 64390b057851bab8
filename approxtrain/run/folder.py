"""The folder of one run: made once, opened again to resume, and written by one process at a time.

The lock is `flock` on `run.lock`: the kernel frees it when the process ends in any way, kill -9 included,
so there is no stale lock to remove.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
from pathlib import Path
from shlex import quote
from typing import IO, Any, Self

from approxtrain import disk
from approxtrain.errors import ConfigError, LockedError

CONFIG = "config.toml"
LOCK = "run.lock"
CHECKPOINTS = "checkpoints"


class RunFolder:
    """A locked run folder, from `create` or `open`; a context manager that unlocks it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] = _lock(path)

    @classmethod
    def create(cls, path: Path | str) -> Self:
        """Make `path` (and its parents) and lock it. Raises ConfigError where it holds anything already."""
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise ConfigError(f"`{path}` is a file, and a run needs a folder: give another --out.")
        disk.make_folders(path)
        _refuse_content(path)
        folder = cls(path)
        try:
            _refuse_content(path)  # another process may have filled it before it let go of the lock
        except ConfigError:
            folder.close()
            raise
        return folder

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Lock the folder of an earlier run. Raises ConfigError where it is none."""
        path = Path(path)
        if not (path / CONFIG).is_file():
            raise ConfigError(
                f"`{path}` holds no {CONFIG}, so it is not the folder of a run. "
                "Give --resume the folder that `approxtrain train` named when it started."
            )
        return cls(path)

    @property
    def config(self) -> Path:
        return self.path / CONFIG

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    def refuse_moved(self) -> None:
        """Raise DiskError where the folder that was locked is not at its path any more."""
        disk.refuse_moved(self._lock, self.path / LOCK)

    def close(self) -> None:
        """Let go of the lock."""
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def default_path(*parts: str, seed: int, seeds: int = 1, root: Path = Path("runs")) -> Path:
    """A folder that does not exist yet, named by `parts`, seeds and UTC time.

    `default_path("cnn2", "schedule1", seed=0)` is runs/cnn2-schedule1-s0-20260131T142205Z; of four seeds it has s0-3.
    """
    which = f"s{seed}" if seeds == 1 else f"s{seed}-{seed + seeds - 1}"
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name = re.sub(r"[^\w.+-]+", "-", "-".join([*parts, which, stamp]))
    path, number = root / name, 2
    while path.exists():
        path, number = root / f"{name}-{number}", number + 1
    return path


def _refuse_content(path: Path) -> None:
    beginnings = (LOCK, disk.unfinished(path / CONFIG).name)  # of a run that was killed before it was one
    others = (entry.name for entry in path.iterdir() if entry.name not in beginnings)
    if any(not re.fullmatch(r"process-\d+\.log", name) for name in others):  # logs of several that failed to start
        raise ConfigError(
            f"`{path}` is not empty, and a new run writes over nothing. To go on with the run in it: "
            f"`approxtrain train --resume {quote(str(path))}`. To start a new one: another --out."
        )


def _lock(path: Path) -> IO[str]:
    """The open, locked `run.lock`, which says who holds it."""
    with disk.explained(path):
        file = (path / LOCK).open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n")
            file.flush()
        except BlockingIOError:
            holder = _holder(file)
            file.close()
            raise LockedError(
                f"`{path}` is being written by {holder}. Wait until that run ends, or choose another --out."
            ) from None
        except BaseException:
            file.close()
            raise
    return file


def _holder(file: IO[str]) -> str:
    file.seek(0)
    try:
        holder: dict[str, Any] = json.loads(file.read())
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError, TypeError):  # it took the lock this very moment and has not signed yet
        return "another process"
