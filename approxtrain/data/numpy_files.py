"""NumPy's own files, .npz and .npy, in bounded memory whatever they say of themselves: nothing in them is unpickled.

NumPy makes room for as much as a header declares, and zlib makes a thousand bytes of one. Here an array has the size of
its file, and the files of an archive together are not much larger than it is.
"""

from __future__ import annotations

import lzma
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

SMALL = 2**30
"""Bytes of unpacked arrays that any archive may have."""
TIGHTEST = 100
"""How many times its own bytes a larger one may have; photographs have less than twice."""

_DAMAGED = (
    *(OSError, ValueError, EOFError, KeyError, TypeError, SyntaxError, OverflowError, MemoryError, RecursionError),
    *(NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, tokenize.TokenError),
)
"""What NumPy, zipfile and the decompressors raise."""


class UnreadableError(Exception):
    """Why a file is not read."""


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz by their names, or the one of an .npy by that of its file. UnreadableError."""
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                return {path.stem: _array(file, path.stat().st_size)}
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            _refuse_bomb(sum(member.file_size for member in members), path.stat().st_size)
            arrays = {}
            for member in members:
                with archive.open(member) as file:
                    arrays[member.filename.removesuffix(".npy")] = _array(file, member.file_size)
            return arrays
    except _DAMAGED as error:
        raise UnreadableError(str(error) or type(error).__name__) from error


def _refuse_bomb(unpacked: int, packed: int) -> None:
    if unpacked > max(SMALL, TIGHTEST * packed):
        raise ValueError(
            f"its arrays are of {unpacked:,} bytes, and it has {packed:,}: no images can be packed so tightly"
        )


def _array(file: IO[bytes], size: int) -> np.ndarray:
    """The array in a file of `size` bytes, read once its header is known to declare no more and no less."""
    version = np.lib.format.read_magic(file)
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in headers:
        raise ValueError(f"an array in version {version} of NumPy's format, and not 1.0 or 2.0")
    shape, _, dtype = headers[version](file)
    if dtype.hasobject:
        raise ValueError("an array of Python objects, which would be a program to run")
    declared, left = math.prod(shape) * dtype.itemsize, size - file.tell()
    if declared != left or min(shape, default=0) < 0:
        raise ValueError(f"an array of {declared:,} bytes where there are {left:,}")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)
