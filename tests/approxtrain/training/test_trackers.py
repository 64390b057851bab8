"""What trackers are told, and TensorBoard's files; W&B and MLflow where they are installed (`make test-all`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from approxtrain.config import load
from approxtrain.errors import ConfigError, DivergedError
from approxtrain.run.folder import RunFolder
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run
from approxtrain.training.trackers import Several, refuse_missing
from approxtrain.training.trackers.tracker import OFTEN, Tracker


class Notes(Tracker):
    """Notes the figures that it is to show."""

    def __init__(self, folder: Path = Path()) -> None:
        super().__init__(folder)
        self.logged: list[tuple[dict[str, float], int]] = []
        self.ended: list[bool] = []

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self.logged.append((dict(figures), step))

    def end(self, finished: bool) -> None:
        self.ended.append(finished)


def work(seeds: range = range(1), steps_per_epoch: int = 6) -> Any:
    return SimpleNamespace(
        config=SimpleNamespace(train=SimpleNamespace(all_seeds=seeds)), steps_per_epoch=steps_per_epoch
    )


def test_a_figure_of_a_layer_and_a_seed_has_them_in_its_name_and_what_is_no_figure_is_left_out():
    notes = Notes()
    row = {
        "kind": "probe",
        "step": 7,
        "epoch": 2,
        "layer": 2,
        "path": "b",
        "method": "approx",
        "cosine": 0.5,
        "seed": 3,
    }
    notes.row({**row, "norm_ratio": "NaN"})
    notes.row({"kind": "train", "step": 6, "epoch": 1, "loss": 0.25})
    assert notes.logged == [({"probe/cosine/layer_2/method_approx/seed_3": 0.5}, 7), ({"train/loss": 0.25}, 6)]


def test_of_single_steps_at_most_a_hundred_an_epoch_are_shown():
    notes = Notes()
    notes.begin(work(steps_per_epoch=390), 0)
    for step in range(1, 391):
        notes.step(step, [0.5])
    assert [step for _, step in notes.logged] == list(range(3, 391, 3))
    assert len(notes.logged) in range(OFTEN, 2 * OFTEN)
    several = Notes()
    several.begin(work(seeds=range(4, 6)), 0)
    several.step(1, [0.5, 0.25])
    assert several.logged == [({"step/loss/seed_4": 0.5, "step/loss/seed_5": 0.25}, 1)]


def test_several_listeners_are_told_everything_in_their_order():
    told: list[str] = []

    class First(Listener):
        def warn(self, message: str) -> None:
            told.append(f"first {message}")

    class Second(Listener):
        def warn(self, message: str) -> None:
            told.append(f"second {message}")

    Several(First(), Second()).warn("x")
    assert told == ["first x", "second x"]


def test_a_listener_of_ones_own_is_told_each_row_that_is_written_and_how_the_run_ends(configure, tmp_path):
    notes = Notes()
    with RunFolder.create(tmp_path / "run") as folder:
        Run(configure({"name": "full"}, epochs=1), folder, notes).train()
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    last = [figures for figures, step in notes.logged if step == 6]
    assert rows[0]["loss"] in [figures.get("train/loss") for figures in last]
    assert rows[1]["accuracy"] in [figures.get("validation/accuracy") for figures in last]
    assert [step for figures, step in notes.logged if "step/loss" in figures] == [1, 2, 3, 4, 5, 6]
    assert notes.ended == [True]


def events(path: Path) -> tuple[dict[tuple[str, int], float], list[int]]:
    """(tag, step) → value of the scalars in an event file, and the steps from which earlier events are void."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    data, position, scalars, restarts = path.read_bytes(), 0, {}, []
    while position < len(data):  # length, its checksum, event, its checksum
        length = int.from_bytes(data[position : position + 8], "little")
        event = Event.FromString(data[position + 12 : position + 12 + length])
        position += 16 + length
        scalars |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
        restarts += [event.step] if event.session_log.status == SessionLog.START else []
    return scalars, restarts


def test_tensorboard_has_rows_and_steps_and_a_resumed_run_hides_what_came_after_its_checkpoint(tmp_path):
    from approxtrain.training.trackers import to_tensorboard

    for begin in (0, 3):
        tracker = to_tensorboard.Tracker(tmp_path)
        tracker.begin(work(), begin)
        tracker.step(begin + 1, [0.5])
        tracker.row({"kind": "train", "step": 6, "epoch": 1, "loss": 0.25})
        tracker.end(False)
    first, second = sorted((tmp_path / "tensorboard").iterdir())
    expected = {("step/loss", 1): 0.5, ("train/loss", 6): 0.25}
    assert events(first) == (expected, [])
    scalars, restarts = events(second)
    assert scalars == {("step/loss", 4): 0.5, ("train/loss", 6): 0.25}
    assert restarts == [4]


def test_a_full_disk_is_a_warning_and_the_end_of_the_events_alone(tmp_path):
    from approxtrain.training.trackers import to_tensorboard

    said: list[str] = []
    tracker = to_tensorboard.Tracker(tmp_path, said.append)
    tracker.begin(work(), 0)
    with open("/dev/full", "wb") as full:
        tracker._writer._writer = full
        for step in range(1, 10_000):  # more than is buffered, and than any queue would hold
            tracker.step(step, [0.5])
        tracker.end(True)
    assert said == [
        "tensorboard shows nothing any more: [Errno 28] No space left on device. The run goes on without it."
    ]


def test_a_mistake_in_a_tracker_of_ones_own_is_not_passed_over(tmp_path):
    class Mistaken(Notes):
        def log(self, figures: Mapping[str, float], step: int) -> None:
            raise KeyError("loss")

    tracker = Mistaken()
    tracker.begin(work(), 0)
    with pytest.raises(KeyError):
        tracker.step(1, [0.5])


@pytest.mark.gate
def test_a_run_without_trackers_leaves_no_events_and_trains_the_same(configure, tmp_path):
    left = []
    for name, trackers in (("with", ("tensorboard",)), ("without", ())):
        with RunFolder.create(tmp_path / name) as folder:
            Run(configure({"name": "full"}, epochs=1, trackers=trackers), folder, Listener()).train()
        assert (tmp_path / name / "tensorboard").exists() == (name == "with")
        left.append((tmp_path / name / "metrics.jsonl").read_bytes())
    assert left[0] == left[1]


def test_a_tracker_whose_package_is_missing_is_refused_in_words(monkeypatch):
    from approxtrain.training import trackers

    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"wandb is not installed: pip install wandb, or"):
        refuse_missing(["wandb"])
    with pytest.raises(ConfigError, match=r"`train\.trackers\.0` .*'tensorboard', 'wandb' or 'mlflow'"):
        load("quickstart", ["train.trackers=['tensorbord']"])


class Broken(Notes):
    """A service that cannot be reached."""

    def open(self, work: Any, step: int) -> None:
        raise RuntimeError("no route to it.")


def test_a_service_that_cannot_be_reached_is_an_error_in_words_and_the_run_can_go_on_later(configure, tmp_path):
    config = configure({"name": "full"}, epochs=1)
    with (
        RunFolder.create(tmp_path / "run") as folder,
        pytest.raises(ConfigError, match=r"`train\.trackers`: .* cannot be used: no route to it\. Leave it out"),
    ):
        Run(config, folder, Broken()).train()
    with RunFolder.open(tmp_path / "run") as folder:
        assert Run(config, folder, Listener()).train()["steps"] == 6


def test_a_tracker_is_told_that_a_run_did_not_finish(configure, tmp_path):
    notes = Notes()
    config = configure({"name": "full"}, learning_rate=1e38, epochs=1)
    with RunFolder.create(tmp_path / "run") as folder, pytest.raises(DivergedError):
        Run(config, folder, notes).train()
    assert notes.ended == [False]


def test_a_run_is_refused_before_it_has_a_folder_where_a_package_of_its_trackers_is_missing(monkeypatch, tmp_path):
    from approxtrain.training import trackers
    from approxtrain_cli import train

    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    for more in ({"out": tmp_path / "run"}, {"dry_run": True}):
        with pytest.raises(ConfigError, match="mlflow is not installed: pip install mlflow-skinny, or leave it out"):
            train.train(["quickstart", 'train.trackers=["mlflow"]'], **more)
    assert list(tmp_path.iterdir()) == []
