"""The folder of a run that goes away while it is written to: the run ends soon, says so, and makes no other one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from approxtrain import disk
from approxtrain.config import dump
from approxtrain.errors import DiskError
from approxtrain.run import record
from approxtrain.run.folder import LOCK, RunFolder
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run

STEPS = 6  # of 32 images are an epoch of the 200 pictures


def _rename(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def _replace(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def _empty(path: Path) -> None:
    for entry in list(path.iterdir()):
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


WAYS = {"removed": shutil.rmtree, "renamed": _rename, "replaced by another": _replace, "emptied": _empty}


class Away(Listener):
    """Does something to the folder after a step, and counts on."""

    def __init__(self, path: Path, after: int, way: Callable[[Path], object]) -> None:
        self.path, self.after, self.way = path, after, way
        self.last = 0

    def step(self, step, losses):
        self.last = step
        if step == self.after:
            self.way(self.path)


def train(path: Path, config, listener: Listener) -> None:
    with RunFolder.create(path) as folder:
        disk.write(folder.config, dump(config))
        Run(config, folder, listener).train()


@pytest.mark.gate
@pytest.mark.parametrize("every", [None, 2], ids=["at the next row", "at the next save"])
@pytest.mark.parametrize("way", WAYS)
def test_a_run_whose_folder_goes_ends_with_a_disk_error_and_makes_no_other(way, every, tmp_path, small, configure):
    path = tmp_path / "run"
    away = Away(path, STEPS + 1, WAYS[way])
    with pytest.raises(DiskError, match=r"was removed, renamed or replaced while .* --resume") as error:
        train(path, configure({"name": "full"}, checkpoint_every=every), away)
    assert error.value.exit_code == 6
    assert f"`{path}" in str(error.value)
    assert away.last <= 2 * STEPS  # the end of the epoch at the latest, of three
    if way in ("removed", "renamed"):
        assert not path.exists()
    else:
        assert list(path.iterdir()) == []


@pytest.mark.gate
def test_a_run_that_was_renamed_goes_on_under_its_new_name(tmp_path, small, configure):
    config = configure({"name": "full"}, epochs=2)
    with pytest.raises(DiskError):
        train(tmp_path / "run", config, Away(tmp_path / "run", STEPS + 1, _rename))
    with RunFolder.open(tmp_path / "elsewhere") as folder:
        assert Run(config, folder, Listener()).train()["epochs"] == 2
    train(tmp_path / "whole", config, Listener())
    whole, renamed = (tmp_path / name / record.METRICS for name in ("whole", "elsewhere"))
    assert whole.read_bytes() == renamed.read_bytes()


def test_a_run_that_diverges_after_its_folder_has_gone_makes_no_other(tmp_path, small, configure):
    path = tmp_path / "run"
    with pytest.raises(DiskError, match="was removed, renamed or replaced"):
        train(path, configure({"name": "full"}, learning_rate=1e38), Away(path, 1, shutil.rmtree))
    assert not path.exists()


@pytest.mark.parametrize("name", [record.METRICS, record.TIMING])
def test_rows_whose_file_has_gone_are_refused(tmp_path, name):
    def write() -> None:
        book.row(kind="train", step=1, loss=0.5)
        book.timing(step=1, seconds=2.0)

    with record.Record(tmp_path) as book:
        write()
        os.replace(tmp_path / name, tmp_path / "kept")  # as an editor does
        (tmp_path / name).write_text("")
        with pytest.raises(DiskError, match=rf"{name}` was removed, renamed or replaced"):
            write()


def test_the_folder_that_was_locked_is_told_from_one_in_its_place(tmp_path):
    with RunFolder.create(tmp_path / "run") as folder:
        folder.refuse_moved()
        _replace(tmp_path / "run")
        (tmp_path / "run" / LOCK).write_text("another run's")
        with pytest.raises(DiskError, match="was removed, renamed or replaced"):
            folder.refuse_moved()
