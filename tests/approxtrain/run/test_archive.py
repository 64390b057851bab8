"""What is left of a run: its archive, from folders that ended in every way, and what makes two runs the same."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from approxtrain import config, disk
from approxtrain.errors import CheckpointError, ConfigError, DivergedError, InterruptedRun
from approxtrain.report import inputs
from approxtrain.run import archive, divergence
from approxtrain.run.archive import TRAJECTORY
from approxtrain.run.folder import RunFolder
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run

DATA = {"name": "mine", "sha256": "0" * 64}


def start(path: Path, settings, listener: Listener | None = None) -> dict:
    with RunFolder.create(path) as folder:
        return Run(settings, folder, listener or Listener()).train()


def identity(*overrides: str, data: dict = DATA, number: int = 1) -> str:
    return archive.identity(config.load("cnn2-full", overrides), data, number)


@pytest.fixture(scope="module")
def finished(configure, pocket_model, tmp_path_factory) -> Path:
    """The folder of two epochs, the last of which is validated."""
    path = tmp_path_factory.mktemp("finished") / "run"
    start(path, configure({"name": "schedule1", "method": "zero"}, epochs=2))
    return path


@pytest.fixture(scope="module")
def pocket_model():
    """The smallest network, for the length of this module."""
    from approxtrain import models
    from approxtrain.models import Model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "get", lambda name: Model(name, "two convolutions", "tests.networks:Tiny"))
        yield


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def test_a_finished_run_is_archived_with_all_that_a_report_needs(finished):
    (found,) = archive.of_folder(finished)
    assert (found.name, found.status, found.message, found.seed) == ("run", "finished", "", 0)
    assert found.trajectory == TRAJECTORY
    assert found.data["name"] == "pictures"
    assert found.config["schedule"]["method"] == "zero"
    assert "dir" in config.plain(config.load(str(finished / "config.toml")))["data"]
    assert "dir" not in found.config["data"]
    summary = json.loads((finished / "summary.json").read_text())
    (outcome,) = summary.pop("by_seed")
    assert found.summary == summary | outcome
    assert found.environment == summary["environment"]
    assert found.summary["validation_images"] == 40
    first, second = found.epochs
    assert [row["epoch"] for row in found.epochs] == [1, 2]
    assert [row["step"] for row in found.epochs] == [6, 12]
    assert "validation_accuracy" not in first
    assert second["validation_accuracy"] == found.summary["final_accuracy"]
    assert second["train_loss"] == found.summary["final_train_loss"]
    assert (second["steps"], second["seconds"] > 0, second["images_per_second"] > 0) == (6, True, True)
    assert second["learning_rate"] < first["learning_rate"]


def test_an_archive_is_read_back_as_it_was_written(finished, tmp_path):
    (found,) = archive.of_folder(finished)
    archive.write(tmp_path / "run.json", found)
    assert archive.read(tmp_path / "run.json") == found


def test_a_loss_that_is_infinite_survives_the_file(finished, tmp_path):
    (found,) = archive.of_folder(finished)
    found.epochs[-1]["validation_loss"] = math.inf
    archive.write(tmp_path / "run.json", found)
    assert archive.read(tmp_path / "run.json").epochs[-1]["validation_loss"] == math.inf


@pytest.mark.gate
def test_a_diverged_run_leaves_a_trace_that_goes_when_it_gets_past(configure, pocket_model, tmp_path):
    settings = configure({"name": "full"}, learning_rate=1e30, epochs=2)
    with pytest.raises(DivergedError) as error:
        start(tmp_path / "run", settings)
    (found,) = archive.of_folder(tmp_path / "run")
    assert found.status == "diverged"
    assert found.message == f"diverged at step {error.value.step}: the loss is {error.value.loss}"
    assert (found.data["name"], found.summary, found.trajectory) == ("pictures", {}, TRAJECTORY)
    assert found.environment["device_platform"] == "cpu"
    divergence.forget(tmp_path / "run", error.value.step - 1)
    assert archive.of_folder(tmp_path / "run")[0].status == "diverged"
    divergence.forget(tmp_path / "run", error.value.step)
    assert archive.of_folder(tmp_path / "run")[0].status == "unfinished"


class Stop(Listener):
    """Ends the run after an epoch."""

    def epoch(self, row):
        raise InterruptedRun(15, "stopped")


@pytest.mark.gate
def test_an_unfinished_run_has_the_epochs_that_it_has(configure, pocket_model, tmp_path):
    with pytest.raises(InterruptedRun):
        start(tmp_path / "run", configure({"name": "full"}, epochs=3), Stop())
    (found,) = archive.of_folder(tmp_path / "run")
    assert (found.status, found.message) == ("unfinished", "1 of 3 epochs")
    assert [row["epoch"] for row in found.epochs] == [1]
    assert found.identity


@pytest.mark.gate
def test_a_run_that_another_program_went_on_with_is_equal_to_no_programs(
    configure, pocket_model, tmp_path, monkeypatch
):
    with pytest.raises(InterruptedRun):
        start(tmp_path / "run", configure({"name": "full"}, epochs=2), Stop())
    (begun,) = archive.of_folder(tmp_path / "run")
    monkeypatch.setattr(archive, "TRAJECTORY", TRAJECTORY + 1)
    with RunFolder.open(tmp_path / "run") as folder:
        Run(configure({"name": "full"}, epochs=2), folder, Listener()).train()
    (ended,) = archive.of_folder(tmp_path / "run")
    assert (begun.trajectory, ended.trajectory, ended.summary["trajectory"]) == (TRAJECTORY, archive.UNKNOWN, 0)
    assert (
        len({begun.identity, ended.identity, archive.identity(configure({"name": "full"}, epochs=2), ended.data)}) == 3
    )


def test_what_a_run_was_is_known_as_long_as_its_checkpoints_or_its_summary_are_there(copy, finished):
    (whole,) = archive.of_folder(finished)
    shutil.move(copy / "checkpoints", copy / "elsewhere")
    assert archive.of_folder(copy)[0].identity == whole.identity
    (copy / "summary.json").unlink()
    (lost,) = archive.of_folder(copy)
    assert (lost.identity, lost.data, lost.trajectory) == ("", {}, archive.UNKNOWN)
    shutil.move(copy / "elsewhere", copy / "checkpoints")
    assert archive.of_folder(copy)[0].identity == whole.identity


def test_a_finished_run_that_is_to_train_longer_is_unfinished(copy):
    disk.write(copy / "config.toml", (copy / "config.toml").read_text().replace("epochs = 2", "epochs = 3"))
    (found,) = archive.of_folder(copy)
    assert (found.status, found.message, found.summary) == ("unfinished", "2 of 3 epochs", {})


@pytest.mark.gate
def test_several_seeds_are_an_archive_each_with_the_identity_of_the_seed_alone(configure, pocket_model, tmp_path):
    schedule = {"name": "schedule1", "method": "zero"}
    summary = start(tmp_path / "run", configure(schedule, epochs=2, seeds=2, seed=3, seeds_by="map"))
    three, four = archive.of_folder(tmp_path / "run")
    assert (three.name, four.name, four.seed) == ("run-seed3", "run-seed4", 4)
    assert four.summary["final_accuracy"] == summary["by_seed"][1]["final_accuracy"]
    assert four.epochs[-1]["validation_accuracy"] == four.summary["final_accuracy"]
    assert (four.summary["seeds"], "by_seed" in four.summary) == (2, False)
    alone = configure(schedule, epochs=2, seed=4)
    assert four.identity == archive.identity(alone, four.data)
    assert three.identity != four.identity


@pytest.mark.parametrize(
    "elsewhere",
    [
        "train.seeds_by=map",
        "train.trackers=[]",
        "data.dir=/here",
        "train.chunk=4",
        "train.checkpoint_every=7",
        "schedule.dispatch=host",
        "schedule.max_columns=99",
    ],
)
def test_where_and_how_a_run_computes_is_no_part_of_its_identity(elsewhere):
    assert identity(elsewhere) == identity()


@pytest.mark.parametrize(
    "changed",
    [
        "train.seed=1",
        "train.epochs=3",
        "optimizer.decay=0.5",
        "train.augment=false",
        "model.name=cnn5",
        "data.holdout=9",
    ],
)
def test_what_changes_a_step_changes_the_identity(changed):
    assert identity(changed) != identity()


def test_images_and_trajectory_are_part_of_the_identity():
    assert len({identity(), identity(data=DATA | {"sha256": "1" * 64}), identity(number=2)}) == 3


def test_a_folder_is_searched_and_what_is_no_run_is_passed_over(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "store/runs/run")
    (found,) = archive.of_folder(finished)
    disk.write_json(tmp_path / "store/table1.json", {"command": "bench-kernel"})
    archive.write(tmp_path / "store/other.json", found)
    assert inputs.read([tmp_path / "store"]).archives == [found]  # the same run, once
    shutil.rmtree(tmp_path / "store/runs")
    assert inputs.read([tmp_path / "store"]).archives == [found]
    assert inputs.read([tmp_path / "store/other.json", finished]).archives == [found]


def test_of_a_run_that_is_there_twice_the_finished_one_counts(finished, copy, tmp_path):
    (copy / "summary.json").unlink()
    assert inputs.read([copy]).archives[0].status == "unfinished"
    assert [found.status for found in inputs.read([copy, finished]).archives] == ["finished"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.json", None, "does not exist"),
        ("half.json", '{"kind": "approxtrain run"', "cannot be read as JSON"),
        ("table1.json", '{"command": "bench-kernel"}', "is no archive of a run: give a run folder"),
        ("newer.json", '{"kind": "approxtrain run", "schema": 99}', "has the schema 99"),
        ("short.json", '{"kind": "approxtrain run", "schema": 1}', "it lacks name, status"),
    ],
)
def test_a_file_that_is_no_archive_is_an_error_that_names_it(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message) as error:
        archive.read(tmp_path / name)
    assert name in str(error.value)


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="holds no run folder and no archive"):
        inputs.read([tmp_path])


@pytest.mark.parametrize("content", ["[]", "3", "null", '"finished"', '{"epochs": 2, "steps": 12}'])
def test_a_summary_that_is_none_is_an_error_that_says_how_to_have_it_again(copy, content):
    (copy / "summary.json").write_text(content)
    with pytest.raises(ConfigError, match=r"summary\.json` is damaged: it lacks data, .* --resume") as error:
        inputs.read([copy])
    assert str(copy) in str(error.value)


def test_an_empty_summary_is_that_of_a_run_that_has_not_finished(copy):
    (copy / "summary.json").write_text("{}")
    assert inputs.read([copy]).archives[0].status == "unfinished"


@pytest.mark.parametrize("other", [None, "much", [1]], ids=["nothing", "a word", "a list"])
@pytest.mark.parametrize(
    ("name", "line", "key"),
    [
        ("metrics.jsonl", 1, "epoch"),
        ("metrics.jsonl", 2, "learning_rate"),
        ("metrics.jsonl", 3, "accuracy"),
        ("timing.jsonl", 2, "epoch"),
        ("timing.jsonl", 1, "seconds"),
    ],
)
def test_a_row_without_one_of_its_numbers_is_an_error_that_names_the_line(copy, name, line, key, other):
    change(copy / name, line, key, other)
    with pytest.raises(CheckpointError, match=rf"{name}` is damaged: line {line} says nothing of {key}, or"):
        inputs.read([copy])


def test_a_row_of_no_kind_is_an_error(copy):
    change(copy / "metrics.jsonl", 2, "kind", None)
    with pytest.raises(CheckpointError, match="line 2 says nothing of kind"):
        inputs.read([copy])


def change(path: Path, line: int, key: str, value: object) -> None:
    """Have a row say `value` of `key`, or nothing where it is None."""
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    del rows[line - 1][key]
    rows[line - 1] |= {} if value is None else {key: value}
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_a_device_is_no_archive():
    with pytest.raises(ConfigError, match="`/dev/zero` cannot be read as JSON: it is no file"):
        inputs.read([Path("/dev/zero")])
