"""Folders of records, as a test needs them: images in `tf.train.Example`, in ArrayRecord or TFRecord files."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from approxtrain.data.example import written

CLASSES = ("bird", "cat", "dog")


def png(number: int, side: int = 16) -> bytes:
    """An image file that carries its number in the first pixel."""
    pixels = np.random.default_rng(number).integers(0, 256, (side, side + number % 3, 3), dtype=np.uint8)
    pixels[0, 0] = number
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def record(number: int, first_label: int = 0, **more: bytes | int) -> bytes:
    label = number % len(CLASSES) + first_label
    return written({"image/encoded": png(number), "image/class/label": label, **more})


def array_record(path: Path, records: Iterable[bytes]) -> Path:
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for content in records:
        writer.write(content)
    writer.close()
    return path


def folder(path: Path, train: int = 21, validation: int = 9) -> Path:
    """Two files to train on and one to validate on."""
    path.mkdir(parents=True)
    (path / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    for number in range(2):
        array_record(path / f"train-0000{number}-of-00002.array_record", map(record, range(number, train, 2)))
    array_record(path / "validation-00000-of-00001.array_record", (record(100 + n) for n in range(validation)))
    return path
