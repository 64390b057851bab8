"""A run that is killed at its first file or at its last ones: it can be resumed, and then all of them are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from approxtrain import config as configuration
from approxtrain.run import curves, record
from approxtrain.run.folder import RunFolder
from approxtrain.training import loop
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run


class Killed(BaseException):
    """Stands for the end of the process."""


def kill(*_: object, **__: object) -> None:
    raise Killed


@pytest.fixture
def linear(configure):
    return configure({"name": "full"}, model="tests.networks:Linear", epochs=1)


def test_a_run_that_is_killed_before_its_curves_are_drawn_draws_them_when_it_is_resumed(
    tmp_path: Path, linear, monkeypatch
):
    with monkeypatch.context() as patch, RunFolder.create(tmp_path) as folder:
        patch.setattr(curves, "plot", kill)
        with pytest.raises(Killed):
            Run(linear, folder, Listener()).train()
    drawn: list[Path] = []
    monkeypatch.setattr(curves, "plot", drawn.append)
    for _ in range(2):  # a run that is complete does nothing
        with RunFolder.open(tmp_path) as folder:
            Run(linear, folder, Listener()).train()
    assert drawn == [tmp_path]
    assert (tmp_path / record.SUMMARY).is_file()


def test_a_run_that_is_killed_when_it_makes_its_rows_has_its_configuration(tmp_path: Path, linear, monkeypatch):
    monkeypatch.setattr(loop.record, "Record", kill)
    with RunFolder.create(tmp_path) as folder, pytest.raises(Killed):
        Run(linear, folder, Listener()).train()
    with RunFolder.open(tmp_path) as folder:
        assert configuration.load(str(folder.config)) == linear
