"""What is done to a folder while its file operations fail, and what must hold afterwards whatever happened.

A scenario has three parts: `prepare` what is there before, `act`, which calls `done(what)` for each thing that it was
told is finished, and `judge`, which raises Lost. Judging ends by doing it all again on a disk that works.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from approxtrain import disk
from approxtrain.data import cifar, cifar_layouts, fetch, store
from approxtrain.errors import DataError
from approxtrain.run import checkpoint, record
from approxtrain.run.folder import RunFolder

Done = Callable[[Any], None]


class Lost(AssertionError):
    """What was promised to be there is not."""


def state(step: int) -> dict[str, np.ndarray]:
    return {"weight": np.full((4, 3), step, np.float32), "step": np.asarray(step, np.int32)}


def newest(folder: Path) -> tuple[int, dict[str, Any]]:
    """(step, meta) of the newest checkpoint, which has to be whole; step 0 where there is none at all."""
    found = checkpoint.load_latest(folder, state(0))
    if found is None:
        return 0, {}
    arrays, meta, skipped = found
    if skipped:
        raise Lost(f"a checkpoint with a name is not whole: {skipped}")
    step = int(arrays["step"])
    if not np.array_equal(arrays["weight"], state(step)["weight"]):
        raise Lost(f"the arrays of step {step} are others")
    return step, meta


def begin(folder: Path) -> tuple[int, dict[str, Any]]:
    """As `newest`, of those that can be read at the moment."""
    found = checkpoint.load_latest(folder, state(0))
    return (0, {}) if found is None else (int(found[0]["step"]), found[1])


def refuse_left_over(folder: Path) -> None:
    """A start of the program leaves nothing in the folder but whole checkpoints."""
    checkpoint.clean(folder)
    if other := [path.name for path in folder.iterdir() if not re.fullmatch(r"step-\d{8}", path.name)]:
        raise Lost(f"left over for ever: {other}")


class Save:
    """Checkpoints in a folder that has some, one of them the best so far."""

    name = "save"

    def prepare(self, root: Path) -> None:
        for step in (1, 2):
            checkpoint.save(root / "checkpoints", step, state(step), {})

    def act(self, root: Path, done: Done) -> None:
        checkpoint.clean(root / "checkpoints")
        first = begin(root / "checkpoints")[0] + 1
        for step in (first, first + 1):
            checkpoint.save(root / "checkpoints", step, state(step), {}, best=1)
            done(step)

    def judge(self, root: Path, done: list[Any]) -> None:
        if newest(root / "checkpoints")[0] < max(done, default=2):
            raise Lost(f"step {max(done, default=2)} was saved, and the newest is {newest(root / 'checkpoints')[0]}")
        if not (root / "checkpoints/step-00000001").is_dir():
            raise Lost("the best checkpoint is gone")
        refuse_left_over(root / "checkpoints")


class SaveOver(Save):
    """A checkpoint in place of one that is damaged, and later ones that cannot be used."""

    name = "save over a damaged one"

    def prepare(self, root: Path) -> None:
        for step in (1, 2, 3, 4):
            checkpoint.save(root / "checkpoints", step, state(step), {}, best=1)
        for step in (3, 4):
            (root / f"checkpoints/step-0000000{step}/meta.json").write_text("{}")

    def act(self, root: Path, done: Done) -> None:
        checkpoint.save(root / "checkpoints", 3, state(3), {}, best=1)
        done(3)

    def judge(self, root: Path, done: list[Any]) -> None:
        found = checkpoint.load_latest(root / "checkpoints", state(0))
        if found is None or int(found[0]["step"]) < max(done, default=1):
            raise Lost(f"step {max(done, default=1)} is not there")
        np.testing.assert_array_equal(found[0]["weight"], state(int(found[0]["step"]))["weight"])


class Rows:
    """A run from the making of its folder to its summary: rows, checkpoints that vouch for them, files written anew."""

    name = "rows"
    LAST = 3

    def prepare(self, root: Path) -> None:
        pass

    def act(self, root: Path, done: Done, last: int = LAST) -> None:
        path = root / "runs" / "mine"
        with RunFolder.open(path) if (path / "config.toml").is_file() else RunFolder.create(path) as folder:
            checkpoint.clean(folder.checkpoints)
            step, meta = begin(folder.checkpoints)
            written = record.Written.of_json(meta["rows"]) if meta else None
            disk.write(folder.config, "first")
            with record.Record(path, written) as rows:
                disk.write(folder.config, "second")
                if not meta:
                    self._save(folder, 0, rows, done)
                for number in range(step + 1, last + 1):
                    rows.row(kind="train", step=number, loss=1 / number, accuracy=0.5)
                    rows.timing(step=number, seconds=0.1)
                    self._save(folder, number, rows, done)
            if last < self.LAST:
                return
            disk.write_json(path / record.SUMMARY, {"steps": self.LAST}, make_folder=False)
            done("summary")

    def _save(self, folder: RunFolder, step: int, rows: record.Record, done: Done) -> None:
        folder.refuse_moved()
        checkpoint.save(folder.checkpoints, step, state(step), {"rows": rows.sync(step)})
        done(step)

    def judge(self, root: Path, done: list[Any]) -> None:
        path = root / "runs" / "mine"
        step, meta = newest(path / "checkpoints")
        if done and not meta:
            raise Lost("a checkpoint was saved, and there is none")
        if step < max((each for each in done if each != "summary"), default=0):
            raise Lost(f"{done} were saved, and the newest is {step}")
        if done and not (path / "config.toml").is_file():
            raise Lost("a checkpoint was saved, and the run has no configuration")
        if (path / "config.toml").is_file() and (path / "config.toml").read_text() not in ("first", "second"):
            raise Lost("half of a configuration")
        if (path / record.SUMMARY).is_file():
            if json.loads((path / record.SUMMARY).read_text()) != {"steps": self.LAST}:
                raise Lost("half of a summary")
        elif "summary" in done:
            raise Lost("the summary is gone")
        self.act(root, lambda _: None)
        refuse_left_over(path / "checkpoints")
        rows = record.rows(path / record.METRICS), record.rows(path / record.TIMING)
        if [[row["step"] for row in each] for each in rows] != [list(range(1, self.LAST + 1))] * 2:
            raise Lost(f"rows are missing or twice: {rows}")


class Resume(Rows):
    """A run that was killed in the middle of a row and of a save goes on."""

    name = "resume"

    def prepare(self, root: Path) -> None:
        self.act(root, lambda _: None, last=1)
        path = root / "runs" / "mine"
        with (path / record.METRICS).open("a") as file:
            file.write('{"kind": "tra')
        (path / "checkpoints/.tmp-step-00000002").mkdir()
        (path / "checkpoints/.tmp-step-00000002/arrays.npz").write_bytes(b"PK")


@functools.cache
def batches() -> dict[str, bytes]:
    """The members of a small archive of CIFAR's binary form."""
    draw = np.random.default_rng(0)
    records = draw.integers(0, 10, (6, 2, 3073), dtype=np.uint8)
    names = cifar_layouts.BINARY.files
    return {f"{cifar_layouts.BINARY.folder}/{name}": each.tobytes() for name, each in zip(names, records, strict=True)}


@functools.cache
def packed() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as tar:
        for name, content in batches().items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return file.getvalue()


class Import:
    """An archive that is imported into a data folder which is not there yet."""

    name = "import"

    def prepare(self, root: Path) -> None:
        (root / "source.tar.gz").write_bytes(packed())

    def act(self, root: Path, done: Done) -> None:
        done(store.add(root / "source.tar.gz", "mine", root / "data").sha256)

    def judge(self, root: Path, done: list[Any]) -> None:
        whole = store.read("source", root / "source.tar.gz").sha256
        try:
            images = store.read("mine", root / "data")
        except DataError as error:
            if done or "There are no images" not in str(error):
                raise Lost(f"imported: {error}") from error
        else:
            _, checks = store.verify("mine", root / "data")
            if images.sha256 != whole or not all(check.passed and check.expected for check in checks):
                raise Lost(f"half an import: {checks}")
        self.act(root, done.append)
        if done[-1] != whole:
            raise Lost("other images")


class Fetch:
    """A download, by two mirrors, the first of which breaks off."""

    name = "download"

    def prepare(self, root: Path) -> None:
        pass

    def act(self, root: Path, done: Done) -> None:
        content = packed()
        layout = replace(
            cifar_layouts.BINARY, archive_bytes=len(content), archive_sha256=hashlib.sha256(content).hexdigest()
        )
        urls = tuple(f"http://{host}/{layout.archive}" for host in ("breaks", "whole"))
        with mock.patch.object(cifar, "LAYOUTS", (layout,)), mock.patch.object(fetch, "_answer", _answer):
            done(fetch.fetch(root / "data", mirrors=urls))

    def judge(self, root: Path, done: list[Any]) -> None:
        archive = root / "data/cifar10" / cifar_layouts.BINARY.archive
        if archive.is_file() and archive.read_bytes() != packed():
            raise Lost("half an archive has its name")
        if done and not archive.is_file():
            raise Lost("a download that was told of is gone")
        self.act(root, done.append)
        if archive.read_bytes() != packed():
            raise Lost("half an archive after a second download")


class _Answer(io.BytesIO):
    """What a mirror sends."""

    chunked = False

    def __init__(self, content: bytes, headers: dict[str, str]) -> None:
        super().__init__(content)
        self.headers = headers


def _answer(request: Any, _: object) -> _Answer:
    start = int((request.get_header("Range") or "bytes=0-")[6:-1])
    end = len(packed()) // 2 if "breaks" in request.full_url else None
    return _Answer(packed()[start:end], {"Content-Range": f"bytes {start}-"})


SCENARIOS = (Save(), SaveOver(), Rows(), Resume(), Import(), Fetch())
Scenario = Save | Rows | Import | Fetch
