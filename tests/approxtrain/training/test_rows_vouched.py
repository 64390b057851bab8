"""Rows that a checkpoint vouches for: a run whose rows or checkpoints were lost or altered is refused, not repaired."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from approxtrain import disk
from approxtrain.config import dump
from approxtrain.errors import CheckpointError, DiskError
from approxtrain.run import record
from approxtrain.run.folder import RunFolder
from approxtrain.run.record import Record
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run

LOSSES = [2.0, 1.5, 1.25]


class Note(Listener):
    """Notes the step that a run begins at."""

    def begin(self, work, step):
        self.began = step


def start(path: Path, config, listener: Listener | None = None) -> None:
    with RunFolder.create(path) as folder:
        disk.write(folder.config, dump(config))
        Run(config, folder, listener or Listener()).train()


def resume(path: Path, config, listener: Listener | None = None) -> dict:
    with RunFolder.open(path) as folder:
        return Run(config, folder, listener or Listener()).train()


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def _edit(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"step": 2', b'"step": 7'))


def _shorten(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def _cut_the_last_line_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _swap(path: Path) -> None:
    first, second, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([second, first, *rest]))


DAMAGE = {
    "edited": (_edit, "the first 3 in it are others"),
    "swapped": (_swap, "the first 3 in it are others"),
    "a row less": (_shorten, "it has 2, and the checkpoint to go on from vouches for 3 rows"),
    "cut short": (_cut_the_last_line_short, "it has 2, and"),
    "emptied": (_empty, "it has 0, and"),
    "deleted": (Path.unlink, "it is missing, and"),
}


@pytest.mark.parametrize("name", [record.METRICS, record.TIMING])
@pytest.mark.parametrize("kind", DAMAGE)
def test_rows_that_are_not_those_of_the_checkpoint_are_refused_and_left_alone(kind, name, tmp_path):
    with Record(tmp_path) as book:
        for step, loss in enumerate(LOSSES, 1):
            book.row(kind="train", step=step, loss=loss)
            book.timing(step=step, seconds=loss)
        written = book.sync(3)
    damage, words = DAMAGE[kind]
    damage(tmp_path / name)
    for other in {record.METRICS, record.TIMING} - {name}:
        with (tmp_path / other).open("a") as file:
            file.write('{"step": 4}\n')  # would be cut
    before = content(tmp_path)
    with pytest.raises(CheckpointError) as error:
        Record(tmp_path, written)
    assert error.value.exit_code == 5
    assert f"`{tmp_path / name}` is not what the run has written: " in str(error.value)
    assert words in str(error.value)
    assert "Bring the file back from a backup" in str(error.value)
    assert content(tmp_path) == before


def test_what_is_vouched_for_goes_through_json_and_counts_on_after_a_resume(tmp_path):
    for name in ("whole", "resumed"):
        (tmp_path / name).mkdir()
    with Record(tmp_path / "whole") as book:
        for step, loss in enumerate(LOSSES, 1):
            book.row(kind="train", step=step, loss=loss)
        whole = book.sync(3)
    written = None
    for step, loss in enumerate(LOSSES, 1):
        with Record(tmp_path / "resumed", written) as book:
            book.row(kind="train", step=step, loss=loss)
            written = record.Written.of_json(json.loads(json.dumps(book.sync(step))))
    assert written == whole
    assert whole.metrics.number == 3


@pytest.mark.parametrize("change", [_shorten, _empty], ids=["shortened", "emptied"])
def test_a_file_that_another_program_changes_ends_the_run(change: Callable[[Path], None], tmp_path):
    with Record(tmp_path) as book:
        book.row(kind="train", step=1, loss=2.0)
        change(tmp_path / record.METRICS)
        with pytest.raises(DiskError, match=r"metrics\.jsonl` has 0 bytes, not the \d+ that the run has written"):
            book.sync(1)


def test_a_run_whose_rows_were_edited_is_not_resumed(tmp_path, small, configure):
    path = tmp_path / "run"
    start(path, configure({"name": "full"}, epochs=1))
    rows = path / record.METRICS
    rows.write_text(rows.read_text().replace('"accuracy": 0.', '"accuracy": 9.'))
    before = content(path)
    for epochs in (1, 2):
        with pytest.raises(CheckpointError, match="the first 2 in it are others"):
            resume(path, configure({"name": "full"}, epochs=epochs))
    assert content(path) == before


def test_a_run_that_has_lost_its_checkpoints_is_refused_and_keeps_its_rows(tmp_path, small, configure):
    path = tmp_path / "run"
    start(path, configure({"name": "full"}, epochs=1))
    shutil.rmtree(path / "checkpoints")
    before = content(path)
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl` has rows, but .*checkpoints` has no checkpoint"):
        resume(path, configure({"name": "full"}, epochs=2))
    assert content(path) == before


@pytest.mark.gate
def test_a_run_that_was_killed_before_its_first_epoch_ended_goes_on_from_step_0(tmp_path, small, configure):
    class Kill(Listener):
        def step(self, step, losses):
            raise KeyboardInterrupt

    config = configure({"name": "schedule1", "method": "approx"}, epochs=1, probe_every=1)
    note, path = Note(), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        start(path, config, Kill())
    assert [entry.name for entry in (path / "checkpoints").iterdir()] == ["step-00000000"]
    resume(path, config, note)
    assert note.began == 0
    start(tmp_path / "whole", config)
    assert (path / record.METRICS).read_bytes() == (tmp_path / "whole" / record.METRICS).read_bytes()
