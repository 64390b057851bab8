"""A file of rows, one JSON object a line, that only grows, and that a checkpoint vouches for.

What vouches is the count of the rows and the SHA-256 of their bytes. It is reckoned as the rows are written, so no
checkpoint has to read the file again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from approxtrain import disk
from approxtrain.errors import CheckpointError, DiskError


class Vouched(NamedTuple):
    """The rows that were written when a checkpoint was saved."""

    number: int
    sha256: str


class RowFile:
    """The file at `path`, open to append to, of which the rows `kept` (`vouched_part`) stay and what follows is cut."""

    def __init__(self, path: Path, kept: bytes) -> None:
        self._path = path
        with disk.explained(path):
            if path.exists() and path.stat().st_size != len(kept):
                disk.write(path, kept)
            # unbuffered: what a full disk has refused is not tried again when the file is closed
            self._file = path.open("ab", buffering=0)
        self._count, self._digest, self._size = kept.count(b"\n"), hashlib.sha256(kept), len(kept)

    def append(self, row: dict[str, Any]) -> None:
        """Write a row. Raises DiskError, also where another program has moved or changed the file."""
        self.refuse_changed()
        line = (json.dumps(row, allow_nan=False) + "\n").encode()
        with disk.explained(self._path):
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
        self._count, self._size = self._count + 1, self._size + len(line)
        self._digest.update(line)

    def refuse_changed(self) -> None:
        """Raise DiskError where the file is not where it was, or holds more or less than was written."""
        disk.refuse_moved(self._file, self._path)
        if (found := os.fstat(self._file.fileno()).st_size) != self._size:
            raise DiskError(
                f"`{self._path}` has {found} bytes, not the {self._size} that the run has written: another program "
                "has changed it, so the run ends. Bring it back from a backup and go on with "
                "`approxtrain train --resume`, or start again."
            )

    def vouch(self) -> Vouched:
        """Flush the rows to the disk itself, so that a power cut cannot part them from a checkpoint. → them."""
        self.refuse_changed()
        with disk.explained(self._path):
            os.fsync(self._file.fileno())
        return Vouched(self._count, self._digest.hexdigest())

    def close(self) -> None:
        self._file.close()


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file, without a last line that was cut short; none where there is no file.

    Raises CheckpointError where another line is damaged, or the file cannot be read.
    """
    found = []
    for number, line in enumerate(_content(path).split(b"\n")[:-1], start=1):  # what a kill cut short has no end
        try:
            found.append(json.loads(line))
            found[-1]["step"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise CheckpointError(
                f"`{path}` is damaged: line {number} is no row of a run. Bring the file back from a backup."
            ) from None
    return found


def vouched_part(path: Path, vouched: Vouched | None) -> bytes:
    """The rows in the file at `path` that `vouched` stands for; of a run without a checkpoint (None) there are none.

    Raises CheckpointError where they are not there as they were, and where there are rows without a checkpoint.
    """
    content = _content(path)
    if vouched is None:
        if not content:
            return b""
        raise CheckpointError(
            f"`{path}` has rows, but `{path.parent / 'checkpoints'}` has no checkpoint, and a run saves one before its "
            "first row: they were lost. Nothing was changed. Bring them back from a backup, or start again with "
            "another --out."
        )
    lines = content.splitlines(keepends=True)
    kept = b"".join(lines[: vouched.number])
    if hashlib.sha256(kept).hexdigest() == vouched.sha256:
        return kept
    raise CheckpointError(
        f"`{path}` is not what the run has written: {_difference(path, lines, vouched)}. Nothing was changed. Bring "
        "the file back from a backup, or start again with another --out."
    )


def _difference(path: Path, lines: Sequence[bytes], vouched: Vouched) -> str:
    expected = f"the checkpoint to go on from vouches for {vouched.number} row{'s' if vouched.number > 1 else ''}"
    if not path.exists():
        return f"it is missing, and {expected}"
    if (whole := sum(line.endswith(b"\n") for line in lines)) < vouched.number:
        return f"it has {whole}, and {expected}"
    return f"{expected}, and the first {vouched.number} in it are others (their SHA-256 differs)"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise CheckpointError(
            f"`{path}` cannot be read: {error.strerror or error}. Make it readable for you, or check the disk."
        ) from error
