"""The files of a tar.gz archive in one pass, in bounded time and memory, whatever its headers say.

`tarfile` believes a header: it reads as many bytes of names and attributes as are declared, follows headers of headers
as deep as they go, and seeks an end that is not there for ever. Here each block of 512 bytes is parsed alone, what is
declared is counted before it is read, and extended headers are passed over. They carry long names, times and owners, of
which none is needed.
"""

from __future__ import annotations

import tarfile
from collections.abc import Collection, Iterator
from gzip import GzipFile
from pathlib import PurePosixPath
from typing import BinaryIO

LARGEST = 2**30
"""Bytes of an unpacked archive; those of CIFAR have a fifth of that."""
MOST_HEADERS = 1000
"""Those of CIFAR have a dozen."""
_LARGEST_EXTENSION = 2**20
_CHUNK = 2**20
_EXTENSIONS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class RefusedError(Exception):
    """The archive holds what is not read here; the message goes on after "it holds"."""


def read(file: BinaryIO, wanted: Collection[str]) -> dict[str, bytes]:
    """Contents of the files of these names, read to the end, where gzip's own checksum stands.

    Raises RefusedError, or what is damaged: TarError, EOFError, zlib.error, OSError.
    """
    contents: dict[str, bytes] = {}
    with GzipFile(fileobj=file) as raw:
        left = LARGEST
        for member in _headers(raw):
            size = -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE if _has_content(member) else 0
            left -= size + tarfile.BLOCKSIZE
            if left < 0 or (member.type in _EXTENSIONS and size > _LARGEST_EXTENSION):
                raise RefusedError(f"{member.name!r}, with which it is larger than any archive of CIFAR")
            if member.type in _EXTENSIONS:
                if b"GNU.sparse." in b"".join(_content(raw, size)):
                    raise RefusedError("a file with gaps")
                continue
            _refuse_unless_plain(member)
            if member.name not in wanted:
                for _ in _content(raw, size):
                    pass
                continue
            if member.name in contents or member.isdir():
                raise RefusedError(f"{member.name!r} twice, or as no file")
            contents[member.name] = b"".join(_content(raw, size))[: member.size]
        while rest := raw.read(_CHUNK):
            left -= len(rest)
            if left < 0:
                raise RefusedError("more after its end than any archive of CIFAR")
    return contents


def _headers(raw: GzipFile) -> Iterator[tarfile.TarInfo]:
    """Each header, at the place where the last one's content was read to its end."""
    for number in range(MOST_HEADERS + 1):
        block = raw.read(tarfile.BLOCKSIZE)
        if number and (not block or not any(block)):
            return
        if number == MOST_HEADERS:
            raise RefusedError(f"more than {MOST_HEADERS} files")
        yield tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")


def _has_content(member: tarfile.TarInfo) -> bool:
    if member.size < 0:
        raise tarfile.ReadError("a file of less than no bytes")
    return member.isreg() or member.type not in tarfile.SUPPORTED_TYPES or member.type in _EXTENSIONS


def _content(raw: GzipFile, size: int) -> Iterator[bytes]:
    """The next `size` bytes in parts, so that no memory is taken for what is only declared."""
    while size:
        part = raw.read(min(size, _CHUNK))
        if not part:
            raise EOFError("it ends within a file")
        size -= len(part)
        yield part


def _refuse_unless_plain(member: tarfile.TarInfo) -> None:
    """Files and folders with names inside the archive's own folder are all that an official archive holds."""
    name = PurePosixPath(member.name)
    plain = member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
    if not plain or name.is_absolute() or ".." in name.parts:
        raise RefusedError(f"{member.name!r}, a link, a device or a path out of the archive")
