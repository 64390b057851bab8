"""XLA's C interface for foreign functions, as jaxlib's header has it: where the fields are that `entry.ll` reads.

`entry.ll` reads fields at fixed offsets. Here these are held against the structures of the header that jaxlib
installs, so that another layout is refused before anything is compiled; `entry.ll` compares the sizes once more with
those that XLA passes at each call.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import jax

MAJOR = 0
"""The version of the interface that `entry.ll` is written for; XLA raises it when it moves or removes a field."""
KNOWN: dict[str, tuple[int, dict[str, int]]] = {
    "CallFrame": (168, {"extension_start": 8, "api": 16, "ctx": 24, "args": 40, "rets": 80}),
    "Args": (40, {"size": 16, "args": 32}),
    "Rets": (40, {"size": 16, "rets": 32}),
    "Buffer": (48, {"dtype": 16, "data": 24}),
    "Metadata": (36, {"api_version": 8, "traits": 32}),
    "Metadata_Extension": (32, {"metadata": 24}),
    "Api_Version": (24, {"major_version": 16, "minor_version": 20}),
    "ThreadPool_Schedule_Args": (40, {"ctx": 16, "task": 24, "data": 32}),
    "Error_Create_Args": (28, {"message": 16, "errc": 24}),
    "Error_Destroy_Args": (24, {"error": 16}),
}
"""Structure → its `struct_size`, and field → offset in bytes: what `entry.ll` reads and writes."""
CALLED = ("Error_Create", "Error_Destroy", "ThreadPool_Schedule")
"""The functions of XLA_FFI_Api that `entry.ll` calls."""
BYTES = {"size_t": 8, "int64_t": 8, "int": 4, "int32_t": 4, "uint32_t": 4, "XLA_FFI_Handler_Traits": 4}


class UnknownInterface(Exception):
    """XLA's interface is not as `entry.ll` needs it; the message says what differs."""


@cache
def interface() -> dict[str, int]:
    """What `entry.ll` is filled in with. UnknownInterface where jaxlib's header is not as we know it."""
    path = Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h"
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise UnknownInterface(f"jaxlib's header of XLA's interface cannot be read: {error}") from error
    text = re.sub(r"//[^\n]*", "", text)
    version = dict(re.findall(r"#define XLA_FFI_API_(MAJOR|MINOR) (\d+)", text))
    if version.get("MAJOR") != str(MAJOR) or "MINOR" not in version:
        raise UnknownInterface(f"XLA's interface has the major version {version.get('MAJOR')}; known is {MAJOR}")
    layouts = Layouts(text)
    for name, (size, offsets) in KNOWN.items():
        there_size, there = layouts.of(f"XLA_FFI_{name}")
        differing = [field for field, offset in offsets.items() if there.get(field) != offset]
        if there_size != size or differing:
            what = f"the fields {', '.join(differing)}" if differing else f"{there_size} bytes, not {size}"
            raise UnknownInterface(f"XLA_FFI_{name} of XLA's interface is laid out in another way: {what}")
    api_size, functions = layouts.of("XLA_FFI_Api")
    missing = [name for name in CALLED if f"XLA_FFI_{name}" not in functions]
    if missing:
        raise UnknownInterface(f"XLA's interface has no {', '.join(missing)}")
    return {
        "MAJOR": MAJOR,
        "MINOR": int(version["MINOR"]),
        "API_SIZE": api_size,
        **{f"{name.upper()}_SIZE": size for name, (size, _) in KNOWN.items()},
        **{name.upper(): functions[f"XLA_FFI_{name}"] for name in CALLED},
    }


class Layouts:
    """The structures of a C header as a 64-bit Linux lays them out."""

    def __init__(self, text: str) -> None:
        self.enums = set(re.findall(r"typedef enum \{[^}]*\} (\w+);", text))
        self.bodies = dict(re.findall(r"struct (\w+) \{(.*?)\n\}", text, re.DOTALL))
        self.last = dict(re.findall(r"XLA_FFI_DEFINE_STRUCT_TRAITS\((\w+),\s*(\w+)\)", text))

    def of(self, name: str) -> tuple[int, dict[str, int]]:
        """(`struct_size`, field → offset), where the size ends with the field that the header calls the last."""
        fields, last = self._fields(name), self.last.get(name)
        if last not in fields:
            raise UnknownInterface(f"the header of XLA's interface does not say how large {name} is")
        return fields[last][1], {field: offset for field, (offset, _) in fields.items()}

    def _fields(self, name: str) -> dict[str, tuple[int, int]]:
        """Field → where it begins and ends."""
        if name not in self.bodies:
            raise UnknownInterface(f"XLA's interface has no {name}")
        fields, end = {}, 0
        for declaration in filter(None, map(str.strip, self.bodies[name].split(";"))):
            function = re.fullmatch(r"_XLA_FFI_API_STRUCT_FIELD\((\w+)\)", declaration)
            pointer = function or re.fullmatch(r"[\w\s]+\*+\s*(\w+)", declaration)
            value = re.fullmatch(r"(\w+)\s+(\w+)", declaration)
            if pointer:
                field, size = pointer[1], 8
            elif value:
                field, size = value[2], self._size(value[1])
            else:
                raise UnknownInterface(f"a field of {name} in XLA's interface cannot be read: {declaration!r}")
            offset = -(-end // min(size, 8)) * min(size, 8)
            end = offset + size
            fields[field] = offset, end
        return fields

    def _size(self, kind: str) -> int:
        if kind in BYTES or kind in self.enums:
            return BYTES.get(kind, 4)
        end = max(end for _, end in self._fields(kind).values())
        return -(-end // 8) * 8
