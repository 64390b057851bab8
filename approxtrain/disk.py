"""Writing that survives a crash: a reader finds the old content or the new one, never half of it.

Bytes go to a hidden file beside the target, are flushed to the disk (`fsync`), and take the target's name in
one `rename`; the folder is flushed last, because the name is stored there.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from approxtrain.errors import DiskError

_ADVICE = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some of your quota",
    errno.EFBIG: "Raise the limit on the size of a file (`ulimit -f`)",
    errno.EACCES: "Make the folder writable for you",
    errno.EPERM: "Make the folder writable for you",
    errno.EROFS: "The file system is read-only: choose another folder",
    errno.ENOENT: "The folder is not there (any more): make it, bring it back or choose another one",
    errno.ENOTDIR: "What should be a folder is a file: choose another path",
    errno.EISDIR: "It is a folder: name a file",
}


def write(path: Path, content: str | bytes) -> None:
    """Replace the file at `path` by `content` in one step. Raises DiskError."""
    data = content.encode() if isinstance(content, str) else content
    temporary = unfinished(path)
    with explained(path):
        try:
            temporary.write_bytes(data)
            sync(temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync(path.parent)


def unfinished(path: Path) -> Path:
    """Where `write` puts the content of `path` first; what is there later was left by a process that was killed."""
    return path.with_name(f".{path.name}.tmp")


def write_json(path: Path, values: Any, *, make_folder: bool = True) -> None:
    """Write `values` as readable JSON in one step, the folder made where it is missing. Raises DiskError.

    A folder that was there, and whose absence is a loss, is not to be made anew: make_folder=False.
    """
    if make_folder:
        make_folders(path.parent)
    write(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


def make_folders(path: Path) -> None:
    """Make the folder `path` and those above it, as far as they are missing, each flushed to the disk by its name: a
    power cut could else take a folder with all that was flushed in it. Raises DiskError.
    """
    with explained(path):
        missing = [each for each in (path, *path.parents) if not each.is_dir()]
        path.mkdir(parents=True, exist_ok=True)
        for each in missing:
            sync(each.parent)


def refuse_moved(file: IO[Any], path: Path) -> None:
    """Raise DiskError unless `path` still leads to `file`, which was opened there.

    An open file can be written to wherever its name has gone, so a run would otherwise not notice that it writes for
    nobody. While it is open, no other file can have its number.
    """
    with explained(path):
        try:
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return
        except (FileNotFoundError, NotADirectoryError):
            pass
    gone = path if path.parent.is_dir() else path.parent
    raise DiskError(
        f"`{gone}` was removed, renamed or replaced while a run was writing to it, so the run ends: bring it back, "
        "or give its new name to `approxtrain train --resume`; if it is lost, start again."
    )


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a DiskError that names `path` and says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        advice = _ADVICE.get(error.errno or 0, "Check the disk")
        raise DiskError(f"`{path}` cannot be written: {reason}. {advice}.") from error
