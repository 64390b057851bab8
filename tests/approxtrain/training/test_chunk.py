"""Several steps in one call: the same steps, grouped alike after a resume, and how many there are by a rule."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from approxtrain import disk
from approxtrain.config import dump
from approxtrain.errors import DivergedError, InterruptedRun
from approxtrain.run import checkpoint, record
from approxtrain.run.folder import RunFolder
from approxtrain.training import dispatch
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run

pytestmark = pytest.mark.gate

TWO_COLUMNS = {"grid": [["full", "zero"], ["full", "random"], ["skip", "full"]]}


class Note(Listener):
    def __init__(self, kill_after: int | None = None) -> None:
        self.kill_after = kill_after
        self.steps, self.warnings, self.chunks = [], [], []

    def compiling(self, first, last, total, steps):
        self.chunks.append(steps)

    def step(self, step, losses):
        self.steps.append(step)
        if step == self.kill_after:
            signal.raise_signal(signal.SIGTERM)

    def warn(self, message):
        self.warnings.append(message)


def start(path: Path, config, listener: Listener | None = None) -> dict:
    with RunFolder.create(path) as folder:
        disk.write(folder.config, dump(config))
        return Run(config, folder, listener or Listener()).train()


def resume(path: Path, config, listener: Listener | None = None) -> dict:
    with RunFolder.open(path) as folder:
        return Run(config, folder, listener or Listener()).train()


@pytest.fixture(name="saved")
def _saved(monkeypatch) -> list[int]:
    """The steps after which checkpoints are saved, as it happens."""
    steps: list[int] = []
    save = checkpoint.save
    monkeypatch.setattr(
        checkpoint, "save", lambda folder, step, *rest, **more: (steps.append(step), save(folder, step, *rest, **more))
    )
    return steps


@pytest.mark.parametrize("schedule", [{"name": "full"}, TWO_COLUMNS], ids=["one column", "two columns"])
def test_a_chunk_takes_the_steps_that_single_calls_take(schedule, assemble, pocket):
    (states, losses), (chunked, its_losses) = (
        assemble(pocket, schedule, mode="switch", chunk=chunk).run(10) for chunk in (1, 4)
    )
    assert its_losses == pytest.approx(losses, rel=1e-4)
    assert [int(state.step) for state in chunked] == [0, 4, 5, 6, 10]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), chunked[1], states[4])


def test_a_chunk_is_one_loop_over_the_step_whose_branches_are_there_once(assemble, pocket):
    bench = assemble(pocket, TWO_COLUMNS, mode="switch", chunk=4)
    bench.run(4)
    text = bench.dispatch.compiled[0, 4].as_text()
    (branches,) = re.findall(r" conditional\(.*branch_computations=\{(.*?)\}", text)
    assert len(branches.split(",")) == 2
    assert re.search(r'known_trip_count.{3,5}n":"4"', text)


@pytest.mark.parametrize(
    ("chunk", "dispatch", "reason"),
    [
        (4, "host", "under host dispatch, steps of different columns are different programs"),
        (7, "auto", "an epoch has 6"),
    ],
)
def test_a_chunk_that_cannot_be_earns_a_warning_and_every_call_is_one_step(
    chunk, dispatch, reason, tmp_path, small, configure
):
    note = Note()
    summary = start(tmp_path / "run", configure(TWO_COLUMNS | {"dispatch": dispatch}, epochs=1, chunk=chunk), note)
    assert [f"train.chunk={chunk} has no effect: {reason}" in line for line in note.warnings] == [True]
    assert (summary["chunk"], set(note.chunks)) == (1, {1})


def test_checkpoints_and_signals_wait_for_the_end_of_a_chunk_and_the_run_goes_on_bit_for_bit(
    tmp_path, small, configure, saved
):
    config = configure({"name": "schedule1", "method": "random"}, chunk=4, checkpoint_every=3)
    with pytest.raises(InterruptedRun, match="Stopped by a signal after step 4"):
        start(tmp_path / "run", config, Note(kill_after=2))
    assert saved == [0, 4]  # a multiple of 3 lies in the first call
    note = Note()
    summary = resume(tmp_path / "run", config, note)
    assert note.steps == list(range(5, 19))
    saved.clear()
    whole = start(tmp_path / "whole", config)
    assert saved == [0, 4, 6, 10, 12, 16, 18]
    assert (tmp_path / "run" / record.METRICS).read_bytes() == (tmp_path / "whole" / record.METRICS).read_bytes()
    assert summary["final_accuracy"] == whole["final_accuracy"]
    # of its 14 steps the first single one and the first call of four had to be compiled
    assert (summary["chunk"], summary["step_ms"]["n"]) == (4, 14 - 1 - 4)


def test_the_step_that_diverged_is_named_within_a_chunk(tmp_path, small, configure):
    config = configure({"name": "schedule1", "method": "zero"}, learning_rate=1e38, chunk=4)
    note = Note()
    with pytest.raises(DivergedError, match=r"The loss of step 2 is (nan|inf), under the methods full, zero"):
        start(tmp_path / "run", config, note)
    assert note.steps == [1]


@pytest.mark.parametrize(
    ("step_seconds", "steps_per_epoch", "steps_left", "expected"),
    [
        (0.03, 390, 10**6, 32),
        (0.001, 390, 10**6, 64),
        (0.001, 7, 10**6, 4),
        (0.001, 1, 10**6, 1),
        (0.6, 390, 10**6, 1),
        (2.0, 390, 10**6, 1),
        (0.03, 390, 19_999, 1),  # less than ten minutes are left
        (0.03, 390, 0, 1),
    ],
)
def test_a_call_is_a_power_of_two_of_steps_that_last_a_second_at_most(
    step_seconds, steps_per_epoch, steps_left, expected
):
    assert dispatch.steps_a_call(step_seconds, steps_per_epoch, steps_left) == expected


def noted(path: Path) -> dict:
    return checkpoint.latest_meta(path / "checkpoints") or {}


def test_left_open_it_is_decided_at_the_end_of_the_first_epoch_and_stands_for_good(
    tmp_path, small, configure, monkeypatch
):
    """Whatever a later process would decide, and from whichever step it goes on."""
    monkeypatch.setattr(dispatch, "LEAST_LEFT", 0.0)
    monkeypatch.setattr(dispatch, "MOST_STEPS", 2)
    config, note = configure({"name": "full"}, checkpoint_every=4), Note()
    whole = start(tmp_path / "whole", config, note)
    assert (note.chunks, whole["chunk"], noted(tmp_path / "whole")["chunk"]) == ([1, 2], 2, 2)
    assert "chunk" not in (tmp_path / "whole" / "config.toml").read_text()
    monkeypatch.setattr(checkpoint, "KEEP", 9)
    with pytest.raises(InterruptedRun):
        start(tmp_path / "run", config, Note(kill_after=8))
    monkeypatch.setattr(dispatch, "MOST_STEPS", 4)
    for folder in (tmp_path / "run" / "checkpoints").iterdir():
        if folder.name != "step-00000006":  # so that it falls back to the end of the first epoch
            (folder / "meta.json").unlink()
    note = Note()
    summary = resume(tmp_path / "run", config, note)
    assert (note.steps, note.chunks) == (list(range(7, 19)), [2])
    assert (summary["chunk"], noted(tmp_path / "run")["chunk"]) == (2, 2)
    assert (tmp_path / "run" / record.METRICS).read_bytes() == (tmp_path / "whole" / record.METRICS).read_bytes()


def test_a_short_run_and_one_of_several_programs_take_single_steps(tmp_path, small, configure, monkeypatch):
    assert start(tmp_path / "short", configure({"name": "full"}, epochs=2))["chunk"] == 1
    monkeypatch.setattr(dispatch, "LEAST_LEFT", 0.0)
    assert start(tmp_path / "host", configure(TWO_COLUMNS | {"dispatch": "host"}, epochs=2))["chunk"] == 1
    assert [noted(tmp_path / name)["chunk"] for name in ("short", "host")] == [1, 1]
