"""Content that is whole, small, and of every kind that the program reads; and whether an error is one of ours."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import pickle
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from approxtrain import config
from approxtrain.data import array_record, convert, example, store
from approxtrain.errors import ApproxtrainError
from approxtrain.run import archive as archives
from approxtrain.run import checkpoint, facts, record, row_file
from tools.soak import scenarios

RULE = '{layers=[2], steps={start=0, stop=10, every=2}, method="zero"}'
SUMMARY = {
    "seed": 0,
    "epochs": 2,
    "steps": 4,
    "data": {"name": "shapes", "sha256": "0" * 64, "validation": "test"},
    "trajectory": 1,
    "environment": {"device": "cpu"},
    "final_accuracy": 0.5,
    "best_accuracy": 0.5,
    "final_train_loss": 1.0,
    "by_seed": [{"seed": 0, "final_accuracy": 0.5, "best_accuracy": 0.5, "best_epoch": 2, "final_train_loss": 1.0}],
    "step_ms": {"median": 1.0, "q1": 1.0, "q3": 1.0, "n": 3},
}


def ours(call: Callable[[], object]) -> bool:
    """Whether the call returned; False where it raised an error of ours. All others pass."""
    try:
        call()
    except ApproxtrainError:
        return False
    return True


@functools.cache
def toml() -> list[bytes]:
    names = ("quickstart", "cnn2-approx", "vgg19-schedule1-approx")
    known = [name for name, _ in config.presets()]
    texts = [config.dump(config.load(name)) for name in (*[name for name in names if name in known], known[-1])]
    texts.append(f'model.name="cnn2"\ndata={{name="shapes"}}\ntrain={{epochs=2}}\n[schedule]\nrules=[{RULE}]\n')
    return [text.encode() for text in texts]


@functools.cache
def overrides() -> list[bytes]:
    text = config.dump(config.load("quickstart"))
    section, lines = "", []
    for line in text.splitlines():
        section = line.strip("[]") if line.startswith("[") else section
        if " = " in line and not line.endswith("["):
            lines.append(f"{section}.{line.replace(' = ', '=')}")
    lines += ['schedule={name="schedule1",method="approx",until_epoch=3}', "train.trackers=[]", "schedule.method=zero"]
    lines += [f"schedule={{rules=[{RULE}]}}", "train.seeds=3", "data.dir=~/x"]
    return [*(line.encode() for line in lines), "\n".join(lines[:4]).encode()]


def batches() -> dict[str, bytes]:
    """Name → content of a batch of CIFAR's binary form."""
    return {name.split("/")[1]: content for name, content in scenarios.batches().items()}


@functools.cache
def tar() -> list[bytes]:
    return [gzip.decompress(scenarios.packed())]


@functools.cache
def pickles(key: bytes) -> list[bytes]:
    pixels = np.zeros((2, 3072), np.uint8)
    content = {"batch_label": "a", key.decode(): [3, 7], "data": pixels, "filenames": ["a", "b"]}
    return [pickle.dumps(content, protocol) for protocol in (2, 3, 4)]


@functools.cache
def binary() -> list[bytes]:
    return [bytes([1, 2]) + bytes(3072) + bytes([3, 4]) + bytes(3072), bytes([0, 99]) + bytes(3072)]


@functools.cache
def pictures() -> list[bytes]:
    draw = np.random.default_rng(0)
    image = Image.fromarray(draw.integers(0, 256, (12, 9, 3), dtype=np.uint8))
    found = []
    for form in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"):
        file = io.BytesIO()
        (image.convert("P") if form == "GIF" else image).save(file, form)
        found.append(file.getvalue())
    return found


@functools.cache
def npy() -> list[bytes]:
    found = []
    for array in (np.zeros((3, 4, 4), np.uint8), np.arange(3)):
        file = io.BytesIO()
        np.save(file, array)
        found.append(file.getvalue())
    return found


@functools.cache
def npz() -> list[bytes]:
    found = []
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, x_train=np.zeros((3, 4, 4), np.uint8), y_train=np.arange(3), class_names=np.array(["a", "b", "c"]))
        found.append(file.getvalue())
    return found


@functools.cache
def examples() -> list[bytes]:
    """Records of images in the names of two conventions."""
    names = (array_record.NAMES[0], array_record.NAMES[1])
    return [example.written({image: pictures()[number], label: number}) for number, (image, label) in enumerate(names)]


@functools.cache
def array_records() -> list[bytes]:
    return [array_record_of(examples()[:1] * 3)]


def array_record_of(records: Iterable[bytes]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one"
        writer = ArrayRecordWriter(str(path), convert.OPTIONS)
        for content in records:
            writer.write(content)
        writer.close()
        return path.read_bytes()


@functools.cache
def manifest() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.tar.gz"
        source.write_bytes(scenarios.packed())
        store.add(source, "mine", folder)
        return [next(Path(folder).glob("mine/*/manifest.json")).read_bytes()]


ROWS = record.Written(1, row_file.Vouched(0, ""), row_file.Vouched(2, "0" * 64))
FACTS = facts.Facts(
    config={"train": {"epochs": 2}, "model": {"name": "cnn2"}},
    data={"name": "pictures", "sha256": "0" * 64},
    environment={"processor": "some", "cpu_count": 2},
    trajectory=1,
    images={"classes": ["a", "b"], "image_shape": [4, 4, 3], "mean": [1, 2.5, 3.0], "std": [1.0, 1.0, 1.0]},
    chunk=8,
    best={"step": 1, "accuracy": 0.5, "loss": None},
    origins={"model.target": {"sha256": "1" * 64}},
)
"""What a checkpoint says of its run."""


def arrays() -> list[bytes]:
    return [_checkpoint()["arrays.npz"]]


def metas() -> list[bytes]:
    return [_checkpoint()["meta.json"]]


def meta(content: bytes) -> dict[str, Any]:
    """What meta.json says of other arrays, without its seal."""
    found = json.loads(metas()[0]) | {"sha256": hashlib.sha256(content).hexdigest()}
    del found["seal"]
    return found


@functools.cache
def _checkpoint() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = checkpoint.save(Path(folder), 1, scenarios.state(1), facts.to_meta(FACTS, ROWS))
        return {file.name: file.read_bytes() for file in path.iterdir()}


@functools.cache
def run() -> dict[str, bytes]:
    """The files of a run's folder, without checkpoints."""
    rows: list[dict[str, Any]] = []
    for epoch in (1, 2):
        common = {"step": 2 * epoch, "epoch": epoch, "loss": 1 / epoch, "accuracy": 0.5}
        rows += [{"kind": "train", **common, "learning_rate": 0.1}, {"kind": "validation", **common}]
    rows.append({"kind": "probe", "step": 1, "epoch": 1, "layer": 1, "method": "approx", "cosine": "NaN"})
    times = [{"step": 2 * n, "epoch": n, "seconds": 1.0, "steps": 2, "images_per_second": 64.0} for n in (1, 2)]
    settings = config.dump(config.load("quickstart", ["train.epochs=2"]))
    metrics, timing = ("".join(json.dumps(row) + "\n" for row in each).encode() for each in (rows, times))
    found = {"config.toml": settings.encode(), "summary.json": json.dumps(SUMMARY).encode()}
    return found | {"metrics.jsonl": metrics, "timing.jsonl": timing}


@functools.cache
def archive() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in run().items():
            (Path(folder) / name).write_bytes(content)
        archives.write(Path(folder) / "archive.json", archives.of_folder(Path(folder))[0])
        return [(Path(folder) / "archive.json").read_bytes()]
