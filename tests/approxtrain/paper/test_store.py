"""The runs of a reproduction, done, recognised, gone on with and archived."""

from __future__ import annotations

import shutil
from pathlib import Path

import jax
import pytest

from approxtrain import data, models
from approxtrain.bench.step_bench import StepContender
from approxtrain.errors import InterruptedRun, LockedError
from approxtrain.models import Model
from approxtrain.models import description as d
from approxtrain.paper import experiments, measure
from approxtrain.paper import runs as planning
from approxtrain.paper.budget import BUDGETS
from approxtrain.paper.execute import execute
from approxtrain.paper.runs import Planned
from approxtrain.paper.store import Store
from approxtrain.run import archive, record, trajectory
from approxtrain.run.folder import RunFolder
from approxtrain.training.events import Listener
from approxtrain.training.signals import Interruption

pytestmark = pytest.mark.one_python

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


@pytest.fixture
def runs(pictures, dataset):
    """`runs("train.seed=3")`: row → the run of two epochs of six steps, on the pictures."""

    def make(*overrides: str) -> dict[str, Planned]:
        small = [f"data.dir={pictures}", "data.name=pictures", "train.batch_size=32", "train.epochs=2", "train.chunk=1"]
        rows = [row for row in experiments.get("table2").rows if row.name in (ZERO, RANDOM)]
        found = planning.configurations(rows, BUDGETS["short"], 1, [*small, *overrides])
        return {run.row.name: run for run in planning.runs(found, dataset)}

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

    def do(planned: Planned, stop_after: int | None = None):
        counted = Count(stop_after)
        return execute(planned, Store(tmp_path), dataset, lambda folder: counted), counted.steps

    return do


def figures(found: archive.Archive) -> list[dict]:
    """The epochs without what a clock has touched."""
    clock = ("seconds", "steps", "images_per_second")
    return [{key: value for key, value in row.items() if key not in clock} for row in found.epochs]


def jsons(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.json"))


def test_a_run_leaves_its_archive_and_is_not_trained_again_without_its_folder(runs, run, tmp_path):
    planned = runs()[ZERO]
    first, steps = run(planned)
    assert (first.status, first.name, first.identity, steps) == ("finished", planned.name, planned.identity, 12)
    assert archive.read(tmp_path / f"{planned.name}.json") == first
    assert [(found.archive, found.folder) for found in Store(tmp_path).contents()] == [(first, None)]
    shutil.rmtree(tmp_path / "runs")
    assert run(planned) == (first, 0)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"{planned.name}.json").rename(tmp_path / "elsewhere/renamed.json")
    assert run(planned) == (first, 0)
    assert jsons(tmp_path) == []


def test_an_archive_that_is_gone_is_written_again_from_the_folder(runs, run, tmp_path):
    planned = runs()[ZERO]
    first, _ = run(planned)
    (tmp_path / f"{planned.name}.json").unlink()
    (tmp_path / "runs" / planned.name).rename(tmp_path / "runs/renamed")
    assert run(planned) == (first, 0)
    assert archive.read(tmp_path / f"{planned.name}.json") == first


def test_what_is_lost_altogether_is_trained_to_the_same_figures(runs, run, tmp_path):
    first, _ = run(runs()[ZERO])
    shutil.rmtree(tmp_path)
    again, steps = run(runs()[ZERO])
    assert steps == 12
    assert figures(again) == figures(first)


def test_an_interrupted_run_goes_on_where_it_was_saved(runs, run, tmp_path):
    planned = runs()[ZERO]
    with pytest.raises(InterruptedRun):
        run(planned, stop_after=1)
    assert jsons(tmp_path) == []
    (found,) = Store(tmp_path).find([planned])
    assert found is not None
    assert (found.ended, found.archive.message) == (False, "1 of 2 epochs")
    ended, steps = run(planned)
    assert steps == 6
    shutil.rmtree(tmp_path)
    again, _ = run(planned)
    assert figures(ended) == figures(again)


def test_images_that_have_moved_are_found_where_they_are_now(runs, run, dataset, pictures, tmp_path):
    with pytest.raises(InterruptedRun):
        run(runs()[ZERO], stop_after=1)
    moved = shutil.copytree(pictures, tmp_path / "moved")
    _, steps = run(runs(f"data.dir={moved}")[ZERO])
    assert steps == 6


def test_a_name_that_another_run_has_is_left_to_it(runs, run, tmp_path):
    mine, other = runs()[ZERO], runs("optimizer.learning_rate=0.1")[ZERO]
    assert mine.name == other.name
    first, _ = run(mine)
    second, steps = run(other)
    assert steps == 12
    assert second.identity != first.identity
    assert jsons(tmp_path) == [f"{mine.name}-2.json", f"{mine.name}.json"]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()) == [mine.name, f"{mine.name}-2"]
    assert [run(each) for each in (mine, other)] == [(first, 0), (second, 0)]


def test_a_program_of_another_trajectory_runs_everything_anew(runs, run, monkeypatch, tmp_path):
    first, _ = run(runs()[ZERO])
    monkeypatch.setattr(trajectory, "TRAJECTORY", trajectory.TRAJECTORY + 1)
    second, steps = run(runs()[ZERO])
    assert (steps, second.trajectory) == (12, first.trajectory + 1)
    assert len(jsons(tmp_path)) == 2


def test_a_run_that_diverges_is_archived_as_such_and_not_tried_again(runs, run, tmp_path):
    planned = runs("optimizer.learning_rate=1e30")[ZERO]
    first, _ = run(planned)
    assert first.status == "diverged"
    assert first.message.startswith("diverged at step ")
    assert run(planned) == (first, 0)
    (tmp_path / f"{planned.name}.json").unlink()
    assert run(planned) == (first, 0)


def test_a_folder_that_was_claimed_and_never_begun_is_used(runs, run, tmp_path):
    planned = runs()[ZERO]
    claimed = Store(tmp_path).claim(planned)
    assert isinstance(claimed, tuple)
    claimed[0].close()
    run(planned)
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()] == [planned.name]


def test_a_run_that_another_process_is_at_cannot_be_claimed(runs, run, tmp_path):
    planned = runs()[ZERO]
    claimed = Store(tmp_path).claim(planned)
    with claimed[0], pytest.raises(LockedError, match=planned.name):
        run(planned)
    with RunFolder.create(tmp_path / "runs/by-hand"):
        run(planned)  # a lock on another folder is no matter


def test_seeds_that_were_trained_at_once_are_recognised(runs, run, dataset, tmp_path):
    from approxtrain.config import settled
    from approxtrain.training.loop import Run

    one, two = runs()[ZERO], runs("train.seed=1")[ZERO]
    with RunFolder.create(tmp_path / "runs/together") as folder:
        Run(settled(one.config, seeds=2, seeds_by="map"), folder, Listener(), dataset).train()
    assert [run(each)[1] for each in (one, two)] == [0, 0]
    assert jsons(tmp_path) == [f"{one.name}.json", f"{two.name}.json"]


def test_runs_of_one_seed_begin_with_the_same_weights_batches_and_augmentation(runs, dataset, tmp_path):
    """So that differences between methods are paired. The first step's loss comes before any gradient does."""

    first: list[float] = []

    class First(Listener):
        def step(self, step, losses):
            first.extend(losses if step == 1 else [])

    for planned in (*runs().values(), runs("train.seed=1")[ZERO]):
        execute(planned, Store(tmp_path), dataset, lambda folder: First())
    zero, random, another_seed = first
    assert zero == random != another_seed


def test_of_a_finished_run_the_archive_has_what_its_folder_had(runs, run, tmp_path):
    found, _ = run(runs()[RANDOM])
    rows = record.rows(tmp_path / "runs" / found.name / record.METRICS)
    assert [row["loss"] for row in rows if row["kind"] == "train"] == [row["train_loss"] for row in found.epochs]
    assert [row["accuracy"] for row in rows if row["kind"] == "validation"] == [
        row["validation_accuracy"] for row in found.epochs
    ]


def test_a_signal_ends_the_measuring_of_a_step_after_the_call_that_is_under_way():
    called = []
    interruption = Interruption()
    interruption.signal_number = 2
    with pytest.raises(InterruptedRun) as caught:
        measure._seconds(StepContender("full", lambda: called.append(1), before=lambda: None), interruption)
    assert (called, caught.value.signal_number) == ([1], 2)
