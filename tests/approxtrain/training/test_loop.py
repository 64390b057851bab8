"""A run from the first step to the summary, and the ways in which it can end."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain import disk
from approxtrain.config import dump
from approxtrain.errors import ConfigError, DataError, DivergedError, InterruptedRun
from approxtrain.models.forward import forward
from approxtrain.run import checkpoint, record
from approxtrain.run.environment import this_environment
from approxtrain.run.folder import RunFolder
from approxtrain.training import evaluate, saving
from approxtrain.training.batch import plain_batch
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run

SIX_STEPS = 6  # of 32 images are an epoch of the 200 pictures


class Note(Listener):
    """Notes what it is told, and sends the process a signal after a step."""

    def __init__(self, kill_after: int | None = None, number: signal.Signals = signal.SIGTERM) -> None:
        self.kill_after, self.number = kill_after, number
        self.began, self.columns, self.steps, self.epochs, self.warnings = [], [], [], [], []

    def begin(self, work, step):
        self.began.append(step)

    def compiling(self, first, last, total, steps):
        self.columns.append((first, last, total, steps))

    def step(self, step, loss):
        self.steps.append(step)
        if step == self.kill_after:
            os.kill(os.getpid(), self.number)

    def epoch(self, row):
        self.epochs.append(row)

    def warn(self, message):
        self.warnings.append(message)


def start(path: Path, config, listener: Listener | None = None) -> dict:
    with RunFolder.create(path) as folder:
        disk.write(folder.config, dump(config))
        return Run(config, folder, listener or Listener()).train()


def resume(path: Path, config, listener: Listener | None = None) -> dict:
    with RunFolder.open(path) as folder:
        return Run(config, folder, listener or Listener()).train()


def final_state(path: Path, config) -> list[bytes]:
    """The bytes of every array of the newest checkpoint."""
    with RunFolder.open(path) as folder:
        like = Run(config, folder, Listener()).initial
        found = checkpoint.load_latest(folder.checkpoints, like)
    assert found is not None
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(found[0])]


def assert_same_run(path: Path, other: Path, config) -> None:
    assert (path / record.METRICS).read_bytes() == (other / record.METRICS).read_bytes()
    assert final_state(path, config) == final_state(other, config)


def test_a_run_leaves_its_rows_its_summary_and_learns(tmp_path, small, configure, drawn_curves):
    note = Note()
    config = configure({"name": "schedule1", "method": "approx"}, epochs=5, augment=False)
    summary = start(tmp_path / "run", config, note)
    rows = record.rows(tmp_path / "run" / record.METRICS)
    train, validation = ([row for row in rows if row["kind"] == kind] for kind in ("train", "validation"))
    assert [(row["epoch"], row["step"]) for row in train] == [(epoch, epoch * SIX_STEPS) for epoch in range(1, 6)]
    assert [row["epoch"] for row in validation] == [2, 4, 5]  # every two epochs and at the end
    assert train[-1]["loss"] < train[0]["loss"] - 0.2
    last = 3 * SIX_STEPS - 1
    assert train[2]["learning_rate"] == pytest.approx(0.01 * 0.8 ** (last / SIX_STEPS))
    assert all(0 <= row["accuracy"] <= 1 for row in rows)

    best = max(validation, key=lambda row: row["accuracy"])
    assert summary["final_accuracy"] == validation[-1]["accuracy"]
    (of_seed,) = summary["by_seed"]
    assert (of_seed["seed"], of_seed["best_epoch"]) == (0, best["epoch"])
    assert summary["best_accuracy"] == of_seed["best_accuracy"] == best["accuracy"]
    assert (summary["final_train_loss"], summary["steps"]) == (train[-1]["loss"], 5 * SIX_STEPS)
    assert summary["data"]["name"] == "pictures"
    assert summary["data"]["validation"] == "test"
    assert json.loads((tmp_path / "run" / record.SUMMARY).read_text()) == summary
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000

    assert (note.began, note.columns) == ([0], [(1, 1, 1, 1)])
    assert note.steps == list(range(1, 5 * SIX_STEPS + 1))
    assert [row["epoch"] for row in note.epochs if "validation_accuracy" in row] == [2, 4, 5]
    timing = record.rows(tmp_path / "run" / record.TIMING)
    assert [row["steps"] for row in timing] == [SIX_STEPS] * 5


def test_a_holdout_is_what_is_validated_on_and_not_trained_on(tmp_path, small, configure):
    config = configure({"name": "full"}, epochs=1)
    config = config.model_copy(update={"data": config.data.model_copy(update={"holdout": 41})})
    summary = start(tmp_path / "run", config)
    assert summary["data"]["validation"] == "holdout"
    assert summary["steps"] == (200 - 41) // 32
    assert (summary["final_accuracy"] * 41) % 1 == pytest.approx(0, abs=1e-9)


def test_validation_counts_every_image_once_whatever_the_batch(small, configure, tmp_path, monkeypatch):
    def found(batch: int) -> evaluate.Evaluation:
        monkeypatch.setattr(evaluate, "BATCH", batch)
        with RunFolder.create(tmp_path / str(batch)) as folder:
            run = Run(configure({"name": "full"}), folder, Listener())
            return run.evaluate(run.initial)[0]

    whole, parts = found(40), found(17)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    assert parts.accuracy == whole.accuracy


def test_what_fills_up_the_last_batch_is_not_counted_as_right(small, configure, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "BATCH", 17)
    with RunFolder.create(tmp_path / "run") as folder:
        run = Run(configure({"name": "full"}), folder, Listener())
    images, (params, stats) = run.evaluate.images, jax.tree.map(lambda leaf: leaf[0], run.initial[1:3])
    logits = forward(run.task.network(params, stats), plain_batch(images, jnp.arange(40)), training=False)
    answers = logits.argmax(-1).astype(jnp.int32)
    assert evaluate.Evaluator(run.task, images._replace(labels=answers))(run.initial)[0].accuracy == 1


@pytest.mark.gate
def test_the_seed_decides_everything(tmp_path, small, configure):
    def metrics(name: str, **train) -> bytes:
        start(tmp_path / name, configure({"name": "schedule3", "method": "random"}, epochs=1, **train))
        return (tmp_path / name / record.METRICS).read_bytes()

    first = metrics("first")
    assert metrics("again") == first
    assert metrics("other", seed=1) != first


def test_a_run_that_diverges_says_so_and_keeps_its_last_finite_checkpoint(tmp_path, small, configure):
    config = configure({"name": "schedule1", "method": "zero"}, learning_rate=1e38, checkpoint_every=1)
    with pytest.raises(DivergedError, match=r"The loss of step 2 is (nan|inf), under the methods full, zero") as error:
        start(tmp_path / "run", config)
    assert error.value.exit_code == 4
    with RunFolder.open(tmp_path / "run") as folder:
        found = checkpoint.load_latest(folder.checkpoints, Run(config, folder, Listener()).initial)
    assert found is not None
    state, _, skipped = found
    assert (int(state.step), skipped) == (1, [])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert math.isfinite(state.loss_sum[0])


# It is seen two steps later, because a step is looked at while others are on their way: 4 + 2 is the end of an epoch.
@pytest.mark.gate
@pytest.mark.parametrize(("number", "after", "code"), [(signal.SIGTERM, 8, 143), (signal.SIGINT, 4, 130)])
def test_a_signal_saves_and_ends_the_run_which_goes_on_bit_for_bit(number, after, code, tmp_path, small, configure):
    config = configure({"name": "schedule2", "method": "random"})
    with pytest.raises(InterruptedRun, match=f"Stopped by a signal after step {after + 2}, which is saved") as error:
        start(tmp_path / "run", config, Note(after, number))
    assert error.value.exit_code == code
    note = Note()
    resume(tmp_path / "run", config, note)
    assert (note.began, note.steps[0]) == ([after + 2], after + 3)
    start(tmp_path / "uninterrupted", config)
    assert_same_run(tmp_path / "run", tmp_path / "uninterrupted", config)


@pytest.mark.gate
def test_a_finished_run_can_grow_by_epochs(tmp_path, small, configure):
    short, long = (configure({"name": "schedule3"}, epochs=epochs, validate_every=1) for epochs in (1, 2))
    start(tmp_path / "run", short)
    summary = resume(tmp_path / "run", long)
    assert summary["epochs"] == 2
    start(tmp_path / "at once", long)
    assert_same_run(tmp_path / "run", tmp_path / "at once", long)


def test_a_finished_run_that_is_resumed_writes_its_summary_again_and_trains_nothing(tmp_path, small, configure):
    config, note = configure({"name": "full"}, epochs=1), Note()
    before = start(tmp_path / "run", config)
    assert resume(tmp_path / "run", config) == before  # what was measured is kept
    (tmp_path / "run" / record.SUMMARY).unlink()
    after = resume(tmp_path / "run", config, note)
    assert (note.steps, note.columns) == ([], [])
    assert after["final_accuracy"] == before["final_accuracy"]
    assert (tmp_path / "run" / record.SUMMARY).is_file()


@pytest.mark.parametrize("damaged", ["{}", "[]", "null", '{"steps": '])
def test_a_damaged_summary_is_written_again_from_the_rows(tmp_path, small, configure, damaged):
    """Of a run without a step, which compiles nothing."""
    config = configure({"name": "full"}, epochs=1)
    with RunFolder.create(tmp_path / "run") as folder:
        run = Run(config, folder, Note())
        (folder.path / record.SUMMARY).write_text(damaged)
        assert saving.summary_of(folder, run.workload.total_steps) is None


@pytest.mark.gate
def test_the_summary_of_a_shorter_run_is_not_taken_for_that_of_the_longer_one(tmp_path, small, configure):
    short, long = (configure({"name": "full"}, epochs=epochs) for epochs in (1, 2))
    start(tmp_path / "run", short)
    stale = (tmp_path / "run" / record.SUMMARY).read_text()
    resume(tmp_path / "run", long)
    (tmp_path / "run" / record.SUMMARY).write_text(stale)  # as if killed after the last checkpoint, before the summary
    assert resume(tmp_path / "run", long)["epochs"] == 2


def test_a_configuration_that_was_edited_is_refused_on_resume(tmp_path, small, configure):
    start(tmp_path / "run", configure({"name": "full"}, epochs=1))
    with pytest.raises(ConfigError, match=r"train\.seed: it was 0"):
        resume(tmp_path / "run", configure({"name": "full"}, epochs=2, seed=1))


@pytest.mark.gate
def test_a_run_that_was_begun_on_another_machine_goes_on_with_a_warning(tmp_path, small, configure, monkeypatch):
    here = this_environment()
    monkeypatch.setattr(saving, "this_environment", lambda: here | {"processor": "another one"})
    start(tmp_path / "run", configure({"name": "full"}, epochs=1))
    monkeypatch.setattr(saving, "this_environment", lambda: here)
    note = Note()
    resume(tmp_path / "run", configure({"name": "full"}, epochs=2), note)
    assert ["processor differ" in line for line in note.warnings] == [True]


def test_other_images_under_the_same_name_are_refused_on_resume(tmp_path, small, configure, pictures):
    config = configure({"name": "full"}, epochs=1)
    start(tmp_path / "run", config)
    other = tmp_path / "other"
    other.mkdir()
    for file in pictures.iterdir():
        (other / file.name).write_bytes(file.read_bytes()[::-1].replace(b"\x00", b"\x01"))
    for file in other.iterdir():  # labels stand first in each record of 3073 bytes
        records = np.frombuffer(file.read_bytes(), np.uint8).reshape(-1, 3073).copy()
        records[:, 0] %= 10
        file.write_bytes(records.tobytes())
    moved = config.model_copy(update={"data": config.data.model_copy(update={"dir": str(other)})})
    with pytest.raises(DataError, match=r"was trained on pictures .*Bring the first back"):
        resume(tmp_path / "run", moved)


def test_a_damaged_checkpoint_is_passed_over_with_a_warning_and_the_end_is_the_same(tmp_path, small, configure):
    config, note = configure({"name": "full"}, epochs=2), Note()
    start(tmp_path / "run", config)
    expected = final_state(tmp_path / "run", config)
    (tmp_path / "run" / "checkpoints" / "step-00000012" / "meta.json").unlink()
    resume(tmp_path / "run", config, note)
    assert note.began == [SIX_STEPS]
    assert ["step-00000012: meta.json is missing" in line for line in note.warnings] == [True]
    assert final_state(tmp_path / "run", config) == expected
