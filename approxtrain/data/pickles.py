"""Labels and pixels out of a batch of CIFAR's *Python* archives, without unpickling it.

A pickle is a program, and loading one runs whatever its author wrote. `pickletools.genops` only lists the
program's instructions with their arguments, so the two things wanted can be picked out of the listing: after
the key of the labels one integer an image, after the key `data` the bytes of a NumPy array, uint8 [n, 3072] in
row-major order.
"""

from __future__ import annotations

import pickletools

import numpy as np

from approxtrain.data.cifar_layouts import PIXELS

_BYTES_AN_INSTRUCTION = 100
"""At least, on average: an image's pixels alone are 3,072 bytes. A listing of nothing else would take all memory."""
_INTEGERS = {"BININT", "BININT1", "BININT2"}
_STRUCTURE = {"MARK", "EMPTY_LIST", "APPEND", "APPENDS", "BINPUT", "LONG_BINPUT", "MEMOIZE", "FRAME"}


def read_batch(data: bytes, labels_key: str = "labels") -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [n, 3072] and labels [n]. ValueError says what the listing lacks."""
    labels: list[int] = []
    pixels, key, is_bytes, is_fortran = None, "", False, False
    for number, (opcode, value, _) in enumerate(pickletools.genops(data)):
        if number > 1000 + len(data) // _BYTES_AN_INSTRUCTION:
            raise ValueError("it has more instructions than images need")
        if opcode.name in _STRUCTURE:
            continue
        text = _text(value)
        if text in (labels_key, "data"):
            key = text
        elif key == labels_key and opcode.name in _INTEGERS and value is not None:
            labels.append(value)
        elif key == labels_key and text is not None:
            key = ""  # the next key of the dictionary
        elif key == "data" and opcode.name in ("NEWFALSE", "NEWTRUE"):
            is_fortran = opcode.name == "NEWTRUE"  # the flag that stands before the array's bytes comes last
        elif key == "data" and text in ("u1", "|u1"):
            is_bytes = True
        elif key == "data" and text is not None and len(text) >= PIXELS:
            pixels, key = text.encode("latin-1"), ""
    if pixels is None or not is_bytes or is_fortran:
        raise ValueError("it holds no array `data` of uint8 in row-major order")
    if not labels or len(pixels) != PIXELS * len(labels):
        raise ValueError(f"it holds {len(labels)} labels, but {len(pixels)} bytes of pixels, {PIXELS} an image")
    return np.frombuffer(pixels, np.uint8).reshape(-1, PIXELS), np.array(labels)


def _text(value: object) -> str | None:
    """A string argument, one character a byte: Python 2 wrote strings, Python 3 writes text or bytes."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else None
