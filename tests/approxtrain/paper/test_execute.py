"""The runs of a reproduction, done, recognised, gone on with and archived."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from approxtrain import data, models
from approxtrain.bench import step_bench
from approxtrain.config import dump
from approxtrain.errors import CheckpointError, ConfigError, InterruptedRun, LockedError
from approxtrain.models import Model
from approxtrain.models import description as d
from approxtrain.paper import estimate, experiments, planning
from approxtrain.paper.execute import execute, find
from approxtrain.paper.planning import BUDGETS, PlannedRun
from approxtrain.run import archive, record
from approxtrain.run.environment import this_environment
from approxtrain.run.folder import RunFolder
from approxtrain.training.events import Listener

pytestmark = pytest.mark.gate

ZERO, RANDOM = "cnn2-zero", "cnn2-random"


@pytest.fixture(autouse=True, scope="module")
def _small_networks():
    """Every network is two convolutions, and what one run has compiled serves the next."""
    ops = (d.Conv("first", 4, stride=2), d.Relu(), d.Conv("second", 4, stride=2), d.GlobalMean(), d.Dense("logits", 10))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "get", lambda name: Model(name, "two convolutions", ops))
        patch.setattr(jax, "clear_caches", lambda: None)
        yield


@pytest.fixture(scope="module")
def dataset(pictures):
    return data.load(experiments.rows()[0].config([f"data.dir={pictures}", "data.name=pictures"]).data)


@pytest.fixture(scope="module")
def runs(pictures, dataset):
    """`runs("train.seed=3")`: row → the run of two epochs of six steps, on the pictures."""

    def make(*overrides: str) -> dict[str, PlannedRun]:
        small = [f"data.dir={pictures}", "data.name=pictures", "train.batch_size=32", "train.epochs=2", "train.chunk=1"]
        rows = [row for row in experiments.get("table2").rows if row.name in (ZERO, RANDOM)]
        configurations = planning.configurations(rows, BUDGETS["short"], 1, [*small, *overrides])
        return {run.row.name: run for run in planning.runs(configurations, dataset)}

    return make


class Count(Listener):
    """Counts the steps that are trained, and ends the run after an epoch."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.steps, self.stop_after = 0, stop_after

    def step(self, step, losses):
        self.steps += 1

    def epoch(self, row):
        if row["epoch"] == self.stop_after:
            raise InterruptedRun(15, "stopped")


@pytest.fixture
def run(dataset, tmp_path):
    """`run(planned)`: → (archive, steps that were trained)."""

    def do(planned: PlannedRun, stop_after: int | None = None):
        counted = Count(stop_after)
        return execute(planned, tmp_path, dataset, counted), counted.steps

    return do


@pytest.fixture(scope="module")
def trained(runs, dataset, tmp_path_factory) -> Path:
    """The folder of a reproduction with one finished run, that of ZERO."""
    folder, counted = tmp_path_factory.mktemp("trained"), Count()
    execute(runs()[ZERO], folder, dataset, counted)
    assert counted.steps == 12
    return folder


@pytest.fixture
def first(trained, tmp_path, runs) -> archive.Archive:
    """The archive of ZERO, finished in tmp_path."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return archive.read(tmp_path / f"{runs()[ZERO].name}.json")


def figures(found: archive.Archive) -> list[dict]:
    """The epochs without what a clock has touched."""
    clock = ("seconds", "steps", "images_per_second")
    return [{key: value for key, value in row.items() if key not in clock} for row in found.epochs]


def jsons(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.json"))


def test_a_run_leaves_its_archive_and_is_not_trained_again_without_its_folder(first, runs, run, tmp_path):
    planned = runs()[ZERO]
    assert (first.status, first.name, first.identity) == ("finished", planned.name, planned.identity)
    assert find(tmp_path, planned) == first
    shutil.rmtree(tmp_path / "runs")
    assert find(tmp_path, planned) == first
    assert run(planned) == (first, 0)
    assert jsons(tmp_path) == [f"{planned.name}.json"]


def test_an_archive_that_is_gone_is_written_again_from_the_folder(first, runs, run, tmp_path):
    planned = runs()[ZERO]
    (tmp_path / f"{planned.name}.json").unlink()
    assert run(planned) == (first, 0)
    assert archive.read(tmp_path / f"{planned.name}.json") == first


def test_of_a_finished_run_the_archive_has_what_its_folder_had(first, tmp_path):
    rows = record.rows(tmp_path / "runs" / first.name / record.METRICS)
    assert [row["loss"] for row in rows if row["kind"] == "train"] == [row["train_loss"] for row in first.epochs]
    assert [row["accuracy"] for row in rows if row["kind"] == "validation"] == [
        row["validation_accuracy"] for row in first.epochs
    ]


def test_an_interrupted_run_goes_on_where_it_was_saved_with_its_images_where_they_are_now(
    runs, run, trained, pictures, tmp_path
):
    planned = runs()[ZERO]
    with pytest.raises(InterruptedRun):
        run(planned, stop_after=1)
    assert jsons(tmp_path) == []
    found = find(tmp_path, planned)
    assert found is not None
    assert (found.status, found.message) == ("unfinished", "1 of 2 epochs")
    moved = shutil.copytree(pictures, tmp_path / "moved")
    ended, steps = run(runs(f"data.dir={moved}")[ZERO])
    assert steps == 6
    assert figures(ended) == figures(archive.read(trained / f"{planned.name}.json"))


def test_a_run_that_diverges_is_archived_as_such_and_not_tried_again(runs, run, tmp_path):
    planned = runs("optimizer.learning_rate=1e30")[ZERO]
    lost, _ = run(planned)
    assert (lost.status, lost.message[:17]) == ("diverged", "diverged at step ")
    assert run(planned) == (lost, 0)
    (tmp_path / f"{planned.name}.json").unlink()
    assert run(planned) == (lost, 0)


@pytest.mark.parametrize("archived", [True, False])
def test_a_name_that_another_run_has_is_an_error_and_nothing_is_written_over(
    archived, first, runs, run, dataset, tmp_path, monkeypatch
):
    planned = runs()[ZERO]
    if not archived:
        (tmp_path / f"{planned.name}.json").unlink()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "run.lock"}
    with pytest.raises(ConfigError, match=r"of another configuration: choose another --out"):
        run(runs("optimizer.learning_rate=0.1")[ZERO])
    with pytest.raises(ConfigError, match=r"on other images: choose another --out"):
        run(replace(planned, data=planned.data | {"sha256": "0" * 64}))
    monkeypatch.setattr(archive, "TRAJECTORY", archive.TRAJECTORY + 1)
    with pytest.raises(ConfigError, match=r"of a program that computes other trajectories: choose another --out"):
        run(planned)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "run.lock"}
    assert after == before


def test_a_run_whose_checkpoints_no_longer_say_how_it_began_does_not_go_on(runs, run, tmp_path):
    planned = runs()[ZERO]
    with pytest.raises(InterruptedRun):
        run(planned, stop_after=1)
    for meta in (tmp_path / "runs" / planned.name).glob("checkpoints/*/meta.json"):
        meta.unlink()
    with pytest.raises(CheckpointError, match=r"meta\.json is missing"):
        run(planned)
    assert jsons(tmp_path) == []


def test_a_folder_that_was_made_and_never_begun_is_used_but_not_by_two_at_once(runs, run, tmp_path):
    planned = runs()[ZERO]
    with RunFolder.create(tmp_path / "runs" / planned.name), pytest.raises(LockedError, match=planned.name):
        run(planned)
    (tmp_path / "runs" / planned.name / "config.toml").write_text(dump(runs("train.seed=1")[ZERO].config))
    with RunFolder.create(tmp_path / "runs/by-hand"):  # a lock on another folder is no matter
        assert run(planned)[1] == 12


@pytest.mark.long
def test_runs_of_one_seed_begin_with_the_same_weights_batches_and_augmentation(runs, dataset, tmp_path):
    """So that differences between methods are paired. The first step's loss comes before any gradient does."""

    first: list[float] = []

    class First(Listener):
        def step(self, step, losses):
            first.extend(losses if step == 1 else [])

    for planned in (*runs().values(), runs("train.seed=1")[ZERO]):
        execute(planned, tmp_path, dataset, First())
    zero, random, another_seed = first
    assert zero == random != another_seed


def test_a_signal_ends_the_measuring_of_a_step_after_the_call_that_is_under_way(runs, monkeypatch, tmp_path):
    called = []

    def call() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        called.append(1)

    monkeypatch.setattr(step_bench.StepBench, "contender", lambda *arguments: SimpleNamespace(call=call))
    with pytest.raises(InterruptedRun) as caught:
        estimate.step_time(tmp_path, runs()[ZERO].config, this_environment(), lambda text: None)
    assert (called, caught.value.signal_number) == ([1], 2)
    assert list(tmp_path.iterdir()) == []
