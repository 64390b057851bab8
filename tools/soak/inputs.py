"""Spoilt inputs for every reader of the program: each is read, or refused by an error of ours, in bounded time and
memory.

A reader has some content that is whole, and `read`. `spoil` makes another content of it by a list of edits, which
hypothesis draws in the tests and `random` in `make soak`.
"""

from __future__ import annotations

import copy
import gzip
import json
import random
import shutil
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from approxtrain import config, data
from approxtrain.data import array_files, cifar, cifar_layouts, convert, files, store, tf_record
from approxtrain.run import archive, checkpoint, facts, record
from tools.soak import samples
from tools.soak.scenarios import state

Edit = tuple[int, int, int]
"""Which kind, where, and what: each from 0 to LARGEST."""
LARGEST = 2**16 - 1

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 10**30, 1e308, -0.5, "", "NaN", "x" * 300, "\x1b[31m", "../..", [], {}, [[]], [None],
    {"": None}, [1, 2, 3], "step-00000001", ["a", [2], "float32"],
)  # fmt: skip
WORDS = (
    b"\0",
    b"\xff" * 8,
    b"[" * 2000,
    b"9" * 5000,
    b"-1",
    b"1e999",
    b"=",
    b'"',
    b"\n",
    b"{",
    b"\\u0000",
    b"nan",
    b"\x80\x02",
)
"""What a parser might stumble over."""


def spoil(content: bytes, edits: Iterable[Edit]) -> bytes:
    """The content with bytes flipped, replaced, taken out, doubled or put in, and its end cut."""
    found = bytearray(content)
    for kind, where, what in edits:
        at, length = where * len(found) // (LARGEST + 1), 1 + what % 64
        match kind % 7:
            case 0 | 1:
                found[at : at + 1] = bytes([what % 256])
            case 2:
                del found[at : at + length]
            case 3:
                found[at:at] = found[at : at + length]
            case 4:
                word = WORDS[what % len(WORDS)]
                found[at : at + len(word) * (what % 2)] = word
            case 5:
                other = what * len(found) // (LARGEST + 1)
                found[at : at + length] = found[other : other + length]
            case 6:
                del found[at if what % 4 == 0 else len(found) :]
    return bytes(found)


def spoil_json(content: bytes, edits: Iterable[Edit]) -> bytes:
    """JSON whose values are other ones, or missing; it stays JSON."""
    value = json.loads(content)
    for kind, where, what in edits:
        holders = [
            (node, key) for node in _nodes(value) for key in (node if isinstance(node, dict) else range(len(node)))
        ]
        new = copy.deepcopy(VALUES[what % len(VALUES)])
        if not holders or where == LARGEST:
            value = new
            continue
        node, key = holders[where * len(holders) // LARGEST]
        if kind % 4 == 0:
            del node[key]
        elif kind % 4 == 1:
            other, name = holders[what * len(holders) // (LARGEST + 1)]
            node[key] = copy.deepcopy(other[name])
        else:
            node[key] = new
    return json.dumps(value).encode()


def _nodes(value: Any) -> Iterable[Any]:
    if isinstance(value, dict | list):
        yield value
        for each in value.values() if isinstance(value, dict) else value:
            yield from _nodes(each)


@dataclass(frozen=True)
class Reader:
    """Something that reads what others may have written."""

    name: str
    whole: Callable[[], Sequence[bytes]]
    read: Callable[[Path, bytes], object]
    """Given a folder of its own and the content."""
    spoil: Callable[[bytes, Iterable[Edit]], bytes] = spoil


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _overrides(folder: Path, content: bytes) -> None:
    config.load("quickstart", content.decode("utf-8", "surrogateescape").split("\n"))


def _spoil_tar(content: bytes, edits: Iterable[Edit]) -> bytes:
    """A gzip of a spoilt tar, most of its headers with a sum that is right; of one list in eight the gzip is spoilt."""
    edits = list(edits)
    if edits and edits[0][0] % 8 == 0:
        return spoil(gzip.compress(content, 1), edits)
    found = bytearray(spoil(content, edits))
    for start in range(0, len(found) - 511, 512):
        if any(found[start : start + 512]) and sum(map(sum, edits)) % 5:
            found[start + 148 : start + 156] = b" " * 8
            found[start + 148 : start + 156] = b"%06o\0 " % sum(found[start : start + 512])
    return gzip.compress(bytes(found), 1)


def _batches(layout: cifar_layouts.Layout) -> Callable[[Path, bytes], object]:
    def read(folder: Path, content: bytes) -> object:
        return cifar.decode(cifar.Batches(folder, layout, (content,) * len(layout.files)))

    return read


def _imported(folder: Path, content: bytes) -> None:
    place = folder / "imported"
    if not place.is_dir():
        place.mkdir()
        for name, batch in samples.batches().items():
            (place / name).write_bytes(batch)
    _write(place / store.MANIFEST, content)
    store.verify("mine", place)
    store.read("mine", place)


def _checkpoint(folder: Path, content: bytes) -> None:
    """The content of meta.json, or of arrays.npz; both are vouched for again, as by one who means harm."""
    place = folder / "checkpoints/step-00000001"
    if not place.is_dir():
        checkpoint.save(folder / "checkpoints", 1, state(1), facts.to_meta(samples.FACTS, samples.ROWS))
        (place / "kept").write_bytes((place / "arrays.npz").read_bytes())
    arrays = (place / "kept").read_bytes()
    try:
        value = json.loads(content)
        if isinstance(value, dict) and value.pop("seal", None) is not None:
            content = json.dumps({"seal": checkpoint._seal(value), **value}).encode()
    except (ValueError, RecursionError):
        arrays = content if content[:2] == b"PK" else arrays
    if arrays is content:
        meta = samples.meta(arrays)
        content = json.dumps({"seal": checkpoint._seal(meta), **meta}).encode()
    _write(place / "arrays.npz", arrays)
    _write(place / "meta.json", content)
    checkpoint.latest_meta(folder / "checkpoints")
    samples.ours(lambda: checkpoint.load_latest(folder / "checkpoints", state(0)))
    _, meta = checkpoint.load_arrays(folder / "checkpoints")
    facts.of_meta(meta, folder / "checkpoints")


def _run(name: str) -> Callable[[Path, bytes], object]:
    """A run's folder with other content in the file `name`."""

    def read(folder: Path, content: bytes) -> object:
        run = folder / f"run-{name}"
        if not run.is_dir():
            run.mkdir()
            for other, whole in samples.run().items():
                _write(run / other, whole)
        _write(run / name, content)
        if name != record.SUMMARY:
            samples.ours(lambda: record.rows(run / name))
        return archive.of_folder(run)

    return read


def _arrays(folder: Path, content: bytes) -> None:
    (folder / "npy").mkdir(exist_ok=True)
    _write(folder / "npy/x_train.npy", content)
    _write(folder / "npy/y_train.npy", samples.npy()[1])
    array_files.open_arrays(folder / "npy")


def _array_record(folder: Path, content: bytes) -> None:
    place = folder / "records"
    place.mkdir(exist_ok=True)
    _write(place / "classes.txt", b"cat\ndog")
    _write(place / "train.array_record", content)
    _write(place / "val.array_record", samples.array_records()[0])
    data.load(config.DataConfig.model_validate({"dir": str(place), "image_size": 8, "broken": "skip"}))


def _converted(folder: Path, content: bytes) -> None:
    place = folder / "tfrecord"
    place.mkdir(exist_ok=True)
    _write(place / "train.tfrecord", content)
    shutil.rmtree(folder / "converted", ignore_errors=True)
    convert.convert(place, folder / "converted")


READERS = (
    Reader("configuration", samples.toml, lambda folder, content: config.load(str(_write(folder / "c.toml", content)))),
    Reader("overrides", samples.overrides, _overrides),
    Reader("tar", samples.tar, lambda folder, content: cifar.read(_write(folder / "a.tar.gz", content)), _spoil_tar),
    Reader("pickle", lambda: samples.pickles(b"labels"), _batches(cifar_layouts.PYTHON)),
    Reader("pickle of 100 classes", lambda: samples.pickles(b"fine_labels"), _batches(cifar_layouts.PYTHON_100)),
    Reader("binary", samples.binary, _batches(cifar_layouts.BINARY_100)),
    Reader("picture", samples.pictures, lambda folder, content: files.read(_write(folder / "p", content), (32, 32, 3))),
    Reader("npz", samples.npz, lambda folder, content: array_files.open_arrays(_write(folder / "a.npz", content))),
    Reader("npy", lambda: samples.npy()[:1], _arrays),
    Reader("ArrayRecord", samples.array_records, _array_record),
    Reader("record", samples.examples, lambda folder, one: _array_record(folder, samples.array_record_of([one]))),
    Reader("TFRecord", lambda: [b"".join(map(tf_record.framed, samples.examples()))], _converted),
    Reader("record of TFRecord", samples.examples, lambda folder, one: _converted(folder, tf_record.framed(one))),
    Reader("manifest", samples.manifest, _imported),
    Reader("manifest, other values", samples.manifest, _imported, spoil_json),
    Reader("checkpoint", samples.metas, _checkpoint, spoil_json),
    Reader("checkpoint, arrays", samples.arrays, _checkpoint),
    Reader("rows", lambda: [samples.run()[record.METRICS]], _run(record.METRICS)),
    Reader("times", lambda: [samples.run()[record.TIMING]], _run(record.TIMING)),
    Reader("summary", lambda: [samples.run()[record.SUMMARY]], _run(record.SUMMARY)),
    Reader("summary, other values", lambda: [samples.run()[record.SUMMARY]], _run(record.SUMMARY), spoil_json),
    Reader(
        "archive of a run", samples.archive, lambda folder, content: archive.read(_write(folder / "a.json", content))
    ),
    Reader(
        "archive of a run, other values",
        samples.archive,
        lambda folder, content: archive.read(_write(folder / "a.json", content)),
        spoil_json,
    ),
)


def read(reader: Reader, folder: Path, number: int, edits: Sequence[Edit]) -> bool:
    """Whether the reader took the spoilt content, number `number` of what it has; what is not ours passes."""
    whole = reader.whole()
    content = reader.spoil(whole[number % len(whole)], edits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return samples.ours(lambda: reader.read(folder, content))


def edits(draw: random.Random) -> list[Edit]:
    return [
        (draw.randint(0, LARGEST), draw.randint(0, LARGEST), draw.randint(0, LARGEST))
        for _ in range(draw.choice([1, 1, 2, 4]))
    ]
