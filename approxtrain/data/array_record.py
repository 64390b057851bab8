"""A folder of ArrayRecord files, which any record can be read from alone, so that a stream can be shuffled whole.

imagenet/train-00000-of-01024.array_record        one or more files a split, which their names tell
imagenet/validation-00000-of-00128.array_record   (val, valid or test as well)
imagenet/classes.txt                              the name of each class on a line, by its label from 0

A record is a `tf.train.Example` (`example.py`) with an image file's bytes and a label: `image/encoded` and
`image/class/label`, or `image` and `label`, as TFDS names them.

`approxtrain data convert` makes such a folder of TFRecord files. Needs the package `array-record`, which Grain brings
along wherever there is one.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from approxtrain.data import example, pictures
from approxtrain.errors import DataError

KIND = "a folder of ArrayRecord files"
ENDING = ".array_record"
CLASSES = "classes.txt"
IMAGE, LABEL = "image/encoded", "image/class/label"
NAMES = ((IMAGE, LABEL), ("image", "label"))
"""What the features of image and label may be called; written are the first two."""
SPLITS = {
    "train": ("train",),
    "validation": ("val", "valid", "validation"),
    "test": ("test",),
}
_SAMPLE = 32
"""How many records say whether the images have colours."""
_OPEN = 256
"""Files that a process has open at a time, of the thousand that systems allow it."""


@dataclass(frozen=True)
class _Readers:
    """The open files of a process, those that were read last. Those of another process are its own."""

    opened: OrderedDict[Path, Any] = field(default_factory=OrderedDict)
    lock: Any = field(default_factory=threading.Lock)

    def __getitem__(self, path: Path) -> Any:
        with self.lock:
            found = self.opened.pop(path, None) or reader(path)
            self.opened[path] = found
            while len(self.opened) > _OPEN:
                self.opened.popitem(last=False)  # closed once no thread reads from it
            return found

    def __reduce__(self) -> tuple[type[_Readers], tuple[()]]:
        return _Readers, ()


@dataclass(frozen=True)
class Records:
    """A split: the records of its files, one file after the other."""

    files: tuple[Path, ...]
    counts: tuple[int, ...]
    channels: int = 3
    _readers: _Readers = field(default_factory=_Readers, repr=False, compare=False)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        image, label = self.record(index)
        with Image.open(io.BytesIO(image)) as picture:
            return pictures.decode(picture, self.channels, self.place(index)), label

    def record(self, index: int) -> tuple[bytes, int]:
        """The bytes of the image file, and the label. ValueError where the record is damaged."""
        file, number = self._at(index)
        try:
            (found,) = self._readers[self.files[file]].read([number])
        except RuntimeError as error:
            raise ValueError(str(error).partition("\n")[0]) from error
        return image_and_label(example.parse(found), self.place(index))

    def place(self, index: int, where: str = "") -> str:
        file, number = self._at(index)
        return f"record {number} of `{self.files[file]}`"

    def _at(self, index: int) -> tuple[int, int]:
        """The number of the file that holds a record, and that of the record in it."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        file = bisect_right(self._ends, index)
        return file, int(index) - (self._ends[file - 1] if file else 0)

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(self.counts))


@dataclass(frozen=True)
class ArrayRecords:
    """What `open_records` finds; a `Dataset`."""

    path: Path
    class_names: tuple[str, ...]
    train: Records
    validation: Records | None
    validated_on: str
    test: Records | None

    @property
    def source(self) -> str:
        return str(self.path)

    def listing_sha256(self) -> str:
        """Over the names of the classes, and names, sizes and numbers of records of the files."""
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        for split in filter(None, (self.train, self.validation)):
            for file, count in zip(split.files, split.counts, strict=True):
                digest.update(f"{file.name}\0{file.stat().st_size}\0{count}\0".encode())
        return digest.hexdigest()


def is_one(path: Path) -> bool:
    return path.is_dir() and any(_files(path))


def open_records(path: Path, channels: int | None = None) -> ArrayRecords:
    """The records of the files in `path`, of which a few are read. DataError where they are no images by class."""
    files: dict[str, list[Path]] = {}
    for file in _files(path):
        files.setdefault(split_of(file), []).append(file)
    if "train" not in files:
        raise DataError(f"`{path}` has no file to train on: *train*{ENDING}.")
    names = class_names(path)
    splits = {name: Records(tuple(of_split), tuple(map(count, of_split))) for name, of_split in files.items()}
    if not splits["train"]:
        raise DataError(f"The files to train on in `{path}` hold no record.")
    channels = channels or _channels(splits["train"])
    splits = {name: Records(split.files, split.counts, channels) for name, split in splits.items()}
    validated_on = "validation" if "validation" in splits else "test"
    return ArrayRecords(path, names, splits["train"], splits.get(validated_on), validated_on, splits.get("test"))


def reader(path: Path) -> Any:
    """An open file. DataError where it is damaged, or where the package is not there."""
    try:
        from array_record.python.array_record_module import ArrayRecordReader
    except ImportError:
        raise DataError(
            f"`{path}` is an ArrayRecord file, and the package that reads it is not there: pip install array-record."
        ) from None
    try:
        # nothing is read ahead: the next record to be read is any other one
        opened = ArrayRecordReader(str(path), "readahead_buffer_size:0", file_reader_buffer_size=2**15)
        if not opened.ok():
            opened.read([0])  # says why not
        return opened
    except RuntimeError as error:
        raise DataError(
            f"`{path}` cannot be read: {str(error).partition(chr(10))[0]}. Copy or convert it again."
        ) from error


def count(path: Path) -> int:
    """How many records a file holds."""
    return int(reader(path).num_records())


def split_of(file: Path) -> str:
    """Of the splits that SPLITS names the one in a file's name. DataError where it names none, or two."""
    words = set(re.split(r"[^a-z]+", file.name.lower()))
    found = [split for split, names in SPLITS.items() if words & set(names)]
    if len(found) != 1:
        known = ", ".join(name for names in SPLITS.values() for name in names)
        raise DataError(f"`{file}` has to say in its name what it is for, by one of these words: {known}. Rename it.")
    return found[0]


def class_names(path: Path) -> tuple[str, ...]:
    """The lines of classes.txt, or of what TFDS writes for it."""
    there = [file for file in (path / CLASSES, *sorted(path.glob("*.labels.txt"))) if file.is_file()]
    if not there:
        raise DataError(f"`{path}` needs the names of its classes, by their labels from 0 on, a line each: {CLASSES}.")
    return names_in(there[0])


def names_in(file: Path) -> tuple[str, ...]:
    """The names in a file, one a line. DataError."""
    try:
        lines = file.read_text("utf-8").rstrip("\n").split("\n")
    except OSError as error:
        raise DataError(f"`{file}` cannot be read: {error.strerror or error}. Make it readable for you.") from error
    except ValueError as error:
        raise DataError(f"`{file}` is no text in UTF-8: {error}. Write it again.") from error
    names = tuple(line.strip() for line in lines)
    if not all(names) or len(set(names)) < len(names):
        raise DataError(f"`{file}` must have a name on each line, and none twice.")
    return names


def image_and_label(features: example.Features, what: str) -> tuple[bytes, int]:
    """Of an Example. DataError where it has them not, or not once."""
    for names in NAMES:
        if features.keys() >= set(names):
            match [features[name] for name in names]:
                case [[bytes(image)], [int(label)]]:
                    return image, label
            raise DataError(f"{what} must have one value each in {names[0]} (bytes) and {names[1]} (a whole number).")
    known = " or ".join(" and ".join(pair) for pair in NAMES)
    held = ", ".join(sorted(features)[:8]) or "nothing that can be read"
    raise DataError(f"{what} has no features {known}; it has {held}.")


def _files(path: Path) -> Sequence[Path]:
    return sorted(file for file in path.glob(f"*{ENDING}*") if not file.name.startswith("."))


def _channels(split: Records) -> int:
    """1 where a sample, evenly spaced, has no colours."""
    for index in range(0, len(split), -(-len(split) // _SAMPLE)):
        try:
            with Image.open(io.BytesIO(split.record(index)[0])) as picture:
                if picture.mode not in pictures.GRAY:
                    return 3
        except pictures.UNREADABLE:
            continue  # it is reported when it is read
    return 1
