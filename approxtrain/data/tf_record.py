"""TFRecord files, record by record, every checksum looked at, without TensorFlow.

    uint64 length | uint32 masked CRC-32C of these 8 bytes | the record | uint32 masked CRC-32C of it

all of it little-endian ([the format](https://www.tensorflow.org/tutorials/load_data/tfrecord)). It can be read from its
beginning only, so that nothing in it can be shuffled but by reading it all.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np

from approxtrain.errors import DataError

LARGEST = 2**28
"""Bytes of a record that are read; images have a thousandth of it."""
_POLYNOMIAL = 0x82F63B78
_BLOCK = 2048


def records(path: Path) -> Iterator[tuple[bytes, int]]:
    """Each record of a file, and the number of bytes up to its end. DataError where one is damaged or cut off."""
    try:
        with path.open("rb") as file:
            yield from _records(file, path)
    except OSError as error:
        raise DataError(f"`{path}` cannot be read: {error.strerror or error}. Make it readable for you.") from error


def _records(file: IO[bytes], path: Path) -> Iterator[tuple[bytes, int]]:
    number = 0
    while header := _taken(file, 12, path, number, first=True):
        length = int.from_bytes(header[:8], "little")
        if _masked(header[:8]) != int.from_bytes(header[8:], "little"):
            what = "is no TFRecord file, or one that is compressed: unpack it" if number == 0 else _damaged(number)
            raise DataError(f"`{path}` {what}.")
        if length > LARGEST:
            raise DataError(f"Record {number} of `{path}` has {length:,} bytes; read are at most {LARGEST:,}.")
        record = _taken(file, length, path, number)
        if _masked(record) != int.from_bytes(_taken(file, 4, path, number), "little"):
            raise DataError(f"`{path}` {_damaged(number)}.")
        yield record, file.tell()
        number += 1


def framed(record: bytes) -> bytes:
    """A record as it stands in a file."""
    length = len(record).to_bytes(8, "little")
    return b"".join(part + _masked(part).to_bytes(4, "little") for part in (length, record))


def crc32c(content: bytes) -> int:
    """The checksum of iSCSI and of most storage since ([RFC 3720](https://www.rfc-editor.org/rfc/rfc3720#appendix-B.4)).

    Python has none, and a loop over bytes would be slower than a disk. It is linear: what a byte at a place in a block
    adds to it is looked up, and all of it added up (XOR).
    """
    table, places = _table(), np.arange(_BLOCK) * 256
    state, bytes_ = 0xFFFFFFFF, np.frombuffer(content, np.uint8)
    for start in range(0, len(bytes_), _BLOCK):
        block = bytes_[start : start + _BLOCK].copy()
        block[:4] ^= np.frombuffer(state.to_bytes(4, "little"), np.uint8)[: len(block)]
        found = table[places[_BLOCK - len(block) :] + block]
        state = int(np.bitwise_xor.reduce(found)) ^ state >> 8 * len(block)
    return state ^ 0xFFFFFFFF


@cache
def _table() -> np.ndarray:
    """What a byte adds to the checksum of a block, by its place in it × 256 + its value."""
    last = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        last = last >> 1 ^ np.where(last & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    rows = [last]
    for _ in range(_BLOCK - 1):  # the place before: as that, with a byte of zeros behind it
        rows.append(rows[-1] >> 8 ^ last[rows[-1] & 0xFF])
    return np.concatenate(rows[::-1])


def _masked(content: bytes) -> int:
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def _taken(file: IO[bytes], size: int, path: Path, number: int, *, first: bool = False) -> bytes:
    """The next bytes of a file; none at its end, where a record begins."""
    found = file.read(size)
    if len(found) < size and (found or not first):
        raise DataError(f"`{path}` ends within record {number}: {_AGAIN}.")
    return found


_AGAIN = "copy it again from where it came from, or remove it"


def _damaged(number: int) -> str:
    return f"is damaged in record {number}, whose checksum is another one: {_AGAIN}"
