"""Several steps in one call: the same steps, grouped alike after a resume, and only where that is measured faster."""

from __future__ import annotations

import re
import signal
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest

from approxtrain import disk
from approxtrain.config import dump
from approxtrain.errors import DivergedError, InterruptedRun
from approxtrain.run import checkpoint, record
from approxtrain.run.folder import RunFolder
from approxtrain.training import autotune
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run

TWO_COLUMNS = {"grid": [["full", "zero"], ["full", "random"], ["skip", "full"]]}


class Note(Listener):
    def __init__(self, kill_after: int | None = None) -> None:
        self.kill_after = kill_after
        self.steps, self.warnings, self.measurements, self.chunks = [], [], [], []

    def compiling(self, first, last, total, steps):
        self.chunks.append(steps)

    def measured(self, text):
        self.measurements.append(text)

    def step(self, step, loss):
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


def chunk_in(path: Path) -> int:
    return tomllib.loads((path / "config.toml").read_text())["train"]["chunk"]


@pytest.fixture(name="saved")
def _saved(monkeypatch) -> list[int]:
    """The steps after which checkpoints are saved, as it happens."""
    steps: list[int] = []
    save = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda folder, step, *rest: (steps.append(step), save(folder, step, *rest)))
    return steps


def test_chunks_begin_at_multiples_from_the_start_of_an_epoch_and_what_is_left_runs_singly(assemble, pocket):
    dispatch = assemble(pocket, {"name": "full"}, chunk=4).dispatch  # six steps an epoch
    assert [dispatch.span(step) for step in range(12)] == [4, 1, 1, 1, 1, 1] * 2
    dispatch.chunk = 2
    assert [dispatch.span(step) for step in (0, 2, 4, 6)] == [2] * 4
    dispatch.chunk = 7
    assert dispatch.span(0) == 1


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


def test_under_host_dispatch_of_several_columns_every_call_is_one_step(assemble, pocket, tmp_path, small, configure):
    dispatch = assemble(pocket, TWO_COLUMNS, mode="host", chunk=4).dispatch
    assert [dispatch.span(step) for step in (0, 4, 6)] == [1, 1, 1]
    note = Note()
    summary = start(tmp_path / "given", configure(TWO_COLUMNS, epochs=1, chunk=4), note)
    assert ["train.chunk=4 has no effect: under host dispatch" in line for line in note.warnings] == [True]
    assert (summary["chunk"], set(note.chunks)) == (1, {1})
    start(tmp_path / "open", configure(TWO_COLUMNS, epochs=1, chunk=None))
    assert (chunk_in(tmp_path / "given"), chunk_in(tmp_path / "open")) == (4, 1)


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
    with pytest.raises(DivergedError, match=r"The loss of step 1 is (nan|inf), under the methods full, zero"):
        start(tmp_path / "run", config, note)
    assert note.steps == [1]


def test_what_is_measured_is_written_to_the_configuration_and_not_measured_again(
    tmp_path, small, configure, monkeypatch
):
    monkeypatch.setattr(autotune, "chunk", lambda trial, total_steps: autotune.Found(2, {1: 0.004, 2: 0.003}))
    note, left_open = Note(), configure({"name": "full"}, epochs=1, chunk=None)
    summary = start(tmp_path / "run", left_open, note)
    assert note.measurements == ["train.chunk=2 (a step takes 4.00 ms by 1, 3.00 ms by 2)"]
    assert (chunk_in(tmp_path / "run"), summary["chunk"], note.chunks) == (2, 2, [2])
    monkeypatch.delattr(autotune, "chunk")
    # the checkpoint knows it as well, if the configuration does not
    for config in (configure({"name": "full"}, epochs=2, chunk=2), configure({"name": "full"}, epochs=3, chunk=None)):
        assert resume(tmp_path / "run", config)["chunk"] == 2
        assert chunk_in(tmp_path / "run") == 2


def test_a_signal_ends_a_measurement_which_is_taken_again_on_resume(tmp_path, small, configure, monkeypatch):
    config = configure({"name": "full"}, epochs=1, chunk=None)
    alone = autotune.Trial.alone

    def signalled(trial, state):
        signal.raise_signal(signal.SIGTERM)
        return alone(trial, state)

    monkeypatch.setattr(autotune.Trial, "alone", signalled)
    with pytest.raises(InterruptedRun, match=r"Stopped by a signal before the first step\. Go on with: .*--resume"):
        start(tmp_path / "run", config)
    assert "chunk" not in (tmp_path / "run" / "config.toml").read_text()
    monkeypatch.setattr(autotune.Trial, "alone", alone)
    note = Note()
    resume(tmp_path / "run", config, note)
    assert (note.steps, chunk_in(tmp_path / "run")) == ([1, 2, 3, 4, 5, 6], 1)


def test_a_call_that_keeps_signals_waiting_earns_one_warning(tmp_path, small, configure, monkeypatch):
    monkeypatch.setattr(autotune, "SERVED", 0.0)
    note = Note()
    start(tmp_path / "run", configure({"name": "full"}, epochs=2, chunk=2), note)
    assert [re.sub(r"lasts \d+ s", "lasts N s", line) for line in note.warnings] == [
        "A call of train.chunk=2 steps lasts N s, and a signal waits for it."
    ]


@pytest.mark.parametrize(
    ("step_seconds", "steps_per_epoch", "expected"),
    [(0.03, 390, 32), (0.001, 390, 64), (0.001, 7, 4), (0.001, 1, 1), (2.0, 390, 1), (0.6, 390, 1)],
)
def test_the_candidate_is_a_power_of_two_of_steps_that_last_a_second_at_most(step_seconds, steps_per_epoch, expected):
    assert autotune.largest(step_seconds, steps_per_epoch) == expected


@pytest.mark.parametrize(
    ("alone", "chunked", "total_steps", "expected"),
    [
        (0.010, 0.0090, 10**6, 4),
        (0.010, 0.00995, 10**6, 1),  # less than 1 % faster
        (0.010, 0.0090, 50_000, 1),  # a run of less than ten minutes
        (0.150, 0.1480, 10**6, 4),  # long steps as well,
        (0.600, 0.1000, 10**6, 1),  # but no call of more than a second
    ],
)
def test_a_chunk_is_taken_where_it_is_faster_and_the_run_long_enough(
    alone, chunked, total_steps, expected, assemble, pocket, monkeypatch
):
    bench = assemble(pocket, {"name": "full"})

    monkeypatch.setattr(
        autotune.Trial, "take", lambda trial, state, steps, chunk=1: (state, steps * (alone if chunk == 1 else chunked))
    )
    trial = autotune.Trial(bench.dispatch, bench.state, bench.images, bench.order)
    assert autotune.chunk(trial, total_steps).choice == expected


def test_a_measurement_leaves_the_state_as_it_was_and_its_programs_to_the_run(assemble, pocket, monkeypatch):
    monkeypatch.setattr(autotune, "SHORT", 0.0)
    bench = assemble(pocket, {"name": "full"})
    before = jax.tree.map(np.asarray, bench.state)
    found = autotune.chunk(autotune.Trial(bench.dispatch, bench.state, bench.images, bench.order), 100)
    assert found.choice in found.seconds
    assert found.seconds.keys() == {1, 4}
    assert bench.dispatch.compiled.keys() == {(0, 1), (0, 4)}
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.asarray, bench.state))
