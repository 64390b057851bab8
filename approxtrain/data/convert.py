"""TFRecord files of images → ArrayRecord files, from which any record can be read alone."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from approxtrain import disk
from approxtrain.data import example, tf_record
from approxtrain.data.array_record import CLASSES, ENDING, IMAGE, LABEL, count, image_and_label, split_of
from approxtrain.errors import ConfigError, DataError, DiskError

OPTIONS = "group_size:1,uncompressed"
"""Each record by itself, and as it is: pictures are packed already."""
_NAMES = ("image/class/synset", "image/class/text")
"""What the name of a class may be in; the first is unique in ImageNet, the second not."""

MOST_CLASSES = 1_000_000

Progress = Callable[[int, int], None]


@dataclass
class Converted:
    """What was made of the files: how many images of each split, and what their labels are called."""

    images: dict[str, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    """Of each label, from 0, its class; labels that no image has are left out."""

    def class_names(self) -> list[str]:
        """By label; what no record names is called by its number."""
        every = [self.names.get(label, "") or str(label) for label in range(max(self.names) + 1)]
        count = Counter(every)
        return [f"{name} ({label})" if count[name] > 1 else name for label, name in enumerate(every)]


def convert(
    source: Path,
    target: Path,
    *,
    first_label: int = 0,
    names: Sequence[str] | None = None,
    progress: Progress = lambda done, total: None,
) -> Converted:
    """Make the folder `target` of the TFRecord files in `source`: it appears complete or not at all.

    An Example keeps image and label, which counts from 0 where it had counted from `first_label`. `names` are those of
    the classes, by default those in the records. `progress` is told the bytes that are done, and all.
    """
    files = _files(source)
    temporary = target.with_name(f".{target.name}.converting")
    if target.exists():
        raise ConfigError(f"`{target}` is there already: name another folder, or remove it.")
    done, total, found = 0, sum(file.stat().st_size for file in files.values()), Converted()
    with disk.explained(target):
        disk.make_folders(target.parent)
        try:
            temporary.mkdir()
        except FileExistsError:
            raise ConfigError(
                f"`{temporary}` is there: a conversion into `{target.name}` is running, or was killed. Remove it then."
            ) from None
        try:
            for name, file in files.items():
                _convert(file, temporary / name, found, first_label, lambda at, done=done: progress(done + at, total))
                done += file.stat().st_size
            _name(temporary, found, names)
            disk.sync(temporary)
            temporary.rename(target)
            disk.sync(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return found


def _files(source: Path) -> dict[str, Path]:
    """The TFRecord files of a folder, by the name that each is to have."""
    if not source.is_dir():
        raise DataError(f"`{source}` is no folder: name the one with the TFRecord files.")
    files: dict[str, Path] = {}
    for file in sorted(source.iterdir()):
        is_one = "tfrecord" in file.name.lower() or re.search(r"-\d+-of-\d+$", file.name)
        if not is_one or file.name.startswith(".") or not file.is_file():
            continue
        split_of(file)  # DataError where the name tells none
        name = re.sub(r"\.tfrecords?", "", file.name, flags=re.IGNORECASE) + ENDING
        if name in files:
            raise DataError(f"`{files[name]}` and `{file}` would both become {name}: rename one.")
        files[name] = file
    if not files:
        raise DataError(f"`{source}` has no TFRecord file: *tfrecord*, or a name that ends in -00000-of-01024.")
    return files


def _convert(file: Path, target: Path, found: Converted, first_label: int, at: Callable[[int], None]) -> None:
    split, written = split_of(file), 0
    with _writing(target) as write:
        for written, (record, end) in enumerate(tf_record.records(file), 1):
            what = f"Record {written - 1} of `{file}`"
            try:
                features = example.parse(record)
            except ValueError as error:
                raise DataError(f"{what} is no tf.train.Example: {error}.") from error
            image, label = image_and_label(features, what)
            if (label := label - first_label) < 0:
                raise DataError(f"{what} has the label {label + first_label}, and the first is {first_label}.")
            if label > MOST_CLASSES:
                raise DataError(f"{what} has the label {label:,}, and {MOST_CLASSES:,} is the largest.")
            _note(found, label, features, what)
            write(example.written({IMAGE: image, LABEL: label}))
            at(end)
    if count(target) != written:
        raise DiskError(f"`{target}` holds {count(target)} records, and {written} were written. Check the disk.")
    disk.sync(target)
    found.images[split] = found.images.get(split, 0) + written


def _note(found: Converted, label: int, features: example.Features, what: str) -> None:
    """What a record calls its class."""
    values = next((features[name] for name in _NAMES if features.get(name)), [b""])
    name = " ".join(values[0].decode(errors="replace").split()) if isinstance(values[0], bytes) else ""
    if (before := found.names.setdefault(label, name)) != name:
        raise DataError(f"{what} calls the label {label} {name!r}, and a record before it {before!r}.")


def _name(folder: Path, found: Converted, names: Sequence[str] | None) -> None:
    if not found.names:
        raise DataError("The files hold no record.")
    if names is None:
        names = found.class_names()
    elif len(names) <= max(found.names):
        raise DataError(f"A record has the label {max(found.names)}, counted from 0, and there are {len(names)} names.")
    disk.write(folder / CLASSES, "".join(f"{name}\n" for name in names))


@contextmanager
def _writing(path: Path) -> Iterator[Callable[[bytes], None]]:
    """What writes a record to a new file. DiskError."""
    try:
        from array_record.python.array_record_module import ArrayRecordWriter
    except ImportError:
        raise DataError("The package that writes ArrayRecord files is not there: pip install array-record.") from None
    try:
        writer = ArrayRecordWriter(str(path), OPTIONS)
        yield writer.write
        writer.close()
    except RuntimeError as error:
        raise DiskError(f"`{path}` cannot be written: {str(error).partition(chr(10))[0]}. Check the disk.") from error
