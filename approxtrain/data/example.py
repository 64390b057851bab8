"""`tf.train.Example`, the record that the field keeps images in, without TensorFlow: what is read of it and written.

    Example  { Features features = 1 }          Features { map<string, Feature> feature = 1 }
    Feature  { BytesList bytes_list = 1 | FloatList float_list = 2 | Int64List int64_list = 3 }

in [protobuf's wire format](https://protobuf.dev/programming-guides/encoding/). Whatever its bytes say, each message is
walked once, and of each feature two values are read at most: what has more than one is no label, and no image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice

Value = bytes | int
Features = dict[str, list[Value]]

MOST = 2
"""Values of a feature that are read."""
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_BYTES_LIST, _INT64_LIST = 1, 3


def parse(record: bytes) -> Features:
    """The bytes and whole numbers of an Example by their names; floats are left out. ValueError where it is none."""
    features: Features = {}
    for message in _messages(memoryview(record), 1):
        for entry in _messages(message, 1):
            key, value = b"", memoryview(b"")
            for number, part in _fields(entry):
                if number == 1 and isinstance(part, memoryview):
                    key = bytes(part)
                elif number == 2 and isinstance(part, memoryview):
                    value = part
            features[key.decode()] = _values(value)
    return features


def written(features: Mapping[str, Value]) -> bytes:
    """An Example with one value a feature."""
    entries = b""
    for name, value in features.items():
        if isinstance(value, bytes):
            feature = _field(_BYTES_LIST, _field(1, value))
        else:
            feature = _field(_INT64_LIST, _field(1, _varint(value % 2**64)))
        entries += _field(1, _field(1, name.encode()) + _field(2, feature))
    return _field(1, entries)


def _values(feature: memoryview) -> list[Value]:
    values: list[Value] = []
    for kind, found in _fields(feature):
        if isinstance(found, int):
            raise ValueError("a number where a list should be")
        if kind == _BYTES_LIST:
            values += map(bytes, islice(_messages(found, 1), MOST))
        elif kind == _INT64_LIST:
            numbers = ([value] if isinstance(value, int) else _packed(value) for _, value in _fields(found))
            values += map(_signed, islice(chain.from_iterable(numbers), MOST))
        if len(values) >= MOST:
            break
    return values[:MOST]


def _messages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, value in _fields(message):
        if number == wanted:
            if isinstance(value, int):
                raise ValueError("a number where a message should be")
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """The fields of a message by their numbers: a whole number, or the bytes of anything else."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _read_varint(message, at)
            yield number, value
            continue
        if kind == _LENGTH:
            size, at = _read_varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field of the kind {kind}")
        if size > len(message) - at:
            raise ValueError(f"a field of {size:,} bytes where there are {len(message) - at:,}")
        yield number, message[at : at + size]
        at += size


def _packed(values: memoryview) -> Iterator[int]:
    at = 0
    while at < len(values):
        value, at = _read_varint(values, at)
        yield value


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number at this place, of 64 bits, and where it ends."""
    value = 0
    for place, byte in enumerate(message[at : at + 10]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value % 2**64, at + place + 1
    raise ValueError("a number without an end")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
