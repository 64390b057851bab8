"""The runs of a reproduction, done, recognised, gone on with and archived."""

from __future__ import annotations

import shutil
from pathlib import Path

import jax
import pytest

from approxtrain import data, models
from approxtrain.errors import InterruptedRun, LockedError
from approxtrain.models import Model
from approxtrain.models import description as d
from approxtrain.paper import execute as executing
from approxtrain.paper import experiments, planning
from approxtrain.paper.budget import BUDGETS
from approxtrain.paper.execute import execute
from approxtrain.paper.planning import PlannedRun
from approxtrain.paper.run_store import RunStore, StoredRun
from approxtrain.run import archive, record
from approxtrain.run.folder import RunFolder
from approxtrain.training.events import Listener
from approxtrain.training.signals import Interruption

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
        return execute(planned, RunStore(tmp_path), dataset, lambda folder: counted), counted.steps

    return do


@pytest.fixture(scope="module")
def trained(runs, dataset, tmp_path_factory) -> Path:
    """The folder of a reproduction with one finished run, that of ZERO."""
    folder, counted = tmp_path_factory.mktemp("trained"), Count()
    execute(runs()[ZERO], RunStore(folder), dataset, lambda path: counted)
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


def folders(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "runs").iterdir() if path.is_dir())


def test_a_run_leaves_its_archive_and_is_not_trained_again_without_its_folder(first, runs, run, tmp_path):
    planned = runs()[ZERO]
    assert (first.status, first.name, first.identity) == ("finished", planned.name, planned.identity)
    assert RunStore(tmp_path).contents() == [StoredRun(first, None)]
    shutil.rmtree(tmp_path / "runs")
    assert run(planned) == (first, 0)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"{planned.name}.json").rename(tmp_path / "elsewhere/renamed.json")
    assert run(planned) == (first, 0)
    assert jsons(tmp_path) == []


def test_an_archive_that_is_gone_is_written_again_from_the_folder(first, runs, run, tmp_path):
    planned = runs()[ZERO]
    (tmp_path / f"{planned.name}.json").unlink()
    (tmp_path / "runs" / planned.name).rename(tmp_path / "runs/renamed")
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
    (stored,) = RunStore(tmp_path).find([planned])
    assert stored is not None
    assert (stored.ended, stored.archive.message) == (False, "1 of 2 epochs")
    moved = shutil.copytree(pictures, tmp_path / "moved")
    ended, steps = run(runs(f"data.dir={moved}")[ZERO])
    assert steps == 6
    assert figures(ended) == figures(archive.read(trained / f"{planned.name}.json"))


def test_a_run_that_diverges_is_archived_as_such_not_tried_again_and_not_written_over_another(
    first, runs, run, tmp_path
):
    mine, other = runs()[ZERO], runs("optimizer.learning_rate=1e30")[ZERO]
    assert mine.name == other.name
    lost, _ = run(other)
    assert (lost.status, lost.message[:17]) == ("diverged", "diverged at step ")
    assert jsons(tmp_path) == [f"{mine.name}-2.json", f"{mine.name}.json"]
    assert folders(tmp_path) == [mine.name, f"{mine.name}-2"]
    assert [run(each) for each in (mine, other)] == [(first, 0), (lost, 0)]
    (tmp_path / f"{mine.name}-2.json").unlink()
    assert run(other) == (lost, 0)


def test_a_program_of_another_trajectory_runs_everything_anew(first, runs, monkeypatch, tmp_path):
    planned = runs()[ZERO]
    assert RunStore(tmp_path).find([planned]) == [StoredRun(first, None)]
    monkeypatch.setattr(archive, "TRAJECTORY", archive.TRAJECTORY + 1)
    assert RunStore(tmp_path).find([planned]) == [None]


def test_a_folder_that_was_claimed_and_never_begun_is_used_again_but_not_by_two_at_once(runs, tmp_path):
    store, planned = RunStore(tmp_path), runs()[ZERO]
    for _ in range(2):
        folder, config = store.claim(planned)
        assert config == planned.config
        with folder, pytest.raises(LockedError, match=planned.name):
            store.claim(planned)
    with RunFolder.create(tmp_path / "runs/by-hand"):
        store.claim(planned)[0].close()  # a lock on another folder is no matter
    assert folders(tmp_path) == ["by-hand", planned.name]


@pytest.mark.long
def test_seeds_that_were_trained_at_once_are_recognised(runs, run, dataset, tmp_path):
    from approxtrain.config import with_train
    from approxtrain.training.loop import Run

    one, two = runs()[ZERO], runs("train.seed=1")[ZERO]
    with RunFolder.create(tmp_path / "runs/together") as folder:
        Run(with_train(one.config, seeds=2, seeds_by="map"), folder, Listener(), dataset).train()
    assert [run(each)[1] for each in (one, two)] == [0, 0]
    assert jsons(tmp_path) == [f"{one.name}.json", f"{two.name}.json"]


@pytest.mark.long
def test_runs_of_one_seed_begin_with_the_same_weights_batches_and_augmentation(runs, dataset, tmp_path):
    """So that differences between methods are paired. The first step's loss comes before any gradient does."""

    first: list[float] = []

    class First(Listener):
        def step(self, step, losses):
            first.extend(losses if step == 1 else [])

    for planned in (*runs().values(), runs("train.seed=1")[ZERO]):
        execute(planned, RunStore(tmp_path), dataset, lambda folder: First())
    zero, random, another_seed = first
    assert zero == random != another_seed


def test_a_signal_ends_the_measuring_of_a_step_after_the_call_that_is_under_way():
    called = []
    interruption = Interruption()
    interruption.signal_number = 2
    with pytest.raises(InterruptedRun) as caught:
        executing.timed(lambda: called.append(1), interruption)
    assert (called, caught.value.signal_number) == ([1], 2)
