"""Which runs a reproduction consists of, how long they train, and what is expected of their time."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from approxtrain.config import load
from approxtrain.errors import ConfigError
from approxtrain.paper import estimate, experiments, planning
from approxtrain.paper.planning import BUDGETS, PlannedRun, settings

SMOKE, SHORT, PAPER = BUDGETS["smoke"], BUDGETS["short"], BUDGETS["paper"]
ROWS = {row.name: row for row in experiments.rows()}
DATA = {"name": "shapes", "sha256": "0" * 64}
HERE = {"device": "cpu", "processor": "fast", "cpu_count": 2}


def test_a_paper_budget_is_the_presets():
    for row in ROWS.values():
        assert settings(row, PAPER) == row.config(["train.chunk=1"])
    assert [load(f"{name}-full").train.epochs for name in ("cnn2", "resnet20", "vgg19")] == [500, 250, 200]


@pytest.mark.parametrize(("name", "epochs"), [("cnn2-zero", 8), ("resnet14-full", 3), ("vgg19-full", 1)])
def test_a_short_run_is_validated_every_epoch_and_ends_at_the_rate_that_the_presets_end_at(name, epochs):
    config = settings(ROWS[name], SHORT)
    assert (config.train.epochs, config.train.validate_every, config.data.name) == (epochs, 1, "cifar10")
    assert config.optimizer.decay**epochs == pytest.approx(0.01, rel=0.02)
    preset = ROWS[name].config()
    assert preset.optimizer.decay**preset.train.epochs == pytest.approx(0.01, rel=0.1)


def test_overrides_come_before_the_budget_and_the_decay_follows_the_epochs():
    config = settings(ROWS["cnn2-full"], SHORT, ["train.epochs=20", "train.validate_every=5", "data.dir=/here"])
    assert (config.train.epochs, config.train.validate_every, config.data.dir) == (20, 5, "/here")
    assert config.optimizer.decay**20 == pytest.approx(0.01, rel=0.02)
    assert settings(ROWS["cnn2-full"], SHORT, ["optimizer.decay=0.9"]).optimizer.decay == 0.9
    assert settings(ROWS["cnn2-full"], SHORT, ["train.epochs=500"]).optimizer.decay == 0.991


def test_smoke_is_on_drawn_images_unless_others_are_given():
    assert settings(ROWS["cnn2-full"], SMOKE).data.name == "shapes"
    assert settings(ROWS["cnn2-full"], SMOKE, ["data.holdout=100"]).data.name == "shapes"
    given = settings(ROWS["cnn2-full"], SMOKE, ["data.dir=/here"]).data
    assert (given.name, given.dir, given.limit) == ("cifar10", "/here", 512)


@pytest.mark.parametrize("override", ["model.name=cnn5", "schedule.method=zero", "schedule={}", "train.seeds=2"])
def test_what_belongs_to_the_rows_cannot_be_overridden(override):
    with pytest.raises(ConfigError, match=override.partition("=")[0]):
        settings(ROWS["cnn2-full"], SMOKE, [override])


def test_targets_are_put_in_the_order_of_the_paper_and_a_run_that_they_share_is_there_once():
    found = planning.chosen(["figure6", "table5", "table3"])
    assert [experiment.name for experiment in found] == ["table3", "table5", "figure6"]
    assert len(experiments.rows(found)) == 15
    assert experiments.rows(planning.chosen(["all"])) == experiments.rows()
    assert experiments.rows(planning.chosen(["table1"])) == ()


def test_seeds_are_the_outer_loop_and_the_budget_says_how_many():
    rows = [ROWS["cnn2-full"], ROWS["resnet20-full"], ROWS["cnn2-zero"]]

    def order(*options) -> list[tuple[str, int]]:
        return [(row.name, config.train.seed) for row, config in planning.configurations(rows, SHORT, *options)]

    first = [("cnn2-full", 0), ("resnet20-full", 0), ("cnn2-zero", 0)]
    assert order() == [*first, ("cnn2-full", 1), ("cnn2-zero", 1), ("cnn2-full", 2), ("cnn2-zero", 2)]
    assert order(1) == first
    assert order(1, ["train.seed=5"]) == [(name, 5) for name, _ in first]


def planned(name: str = "cnn2-zero", *overrides: str) -> PlannedRun:
    row = ROWS[name]
    return PlannedRun(row, settings(row, SMOKE, ["data.name=shapes", *overrides]), DATA, 4)


def test_a_run_is_named_by_row_images_length_and_seed_and_known_by_its_identity():
    run = planned("cnn2-zero", "train.seed=3")
    assert run.name == "cnn2-zero-shapes-e1-s3"
    assert run.identity == planned("cnn2-zero", "train.seed=3", "train.chunk=2").identity
    assert run.identity != planned("cnn2-random", "train.seed=3").identity


def test_a_schedule_that_does_not_fit_is_refused_before_anything_runs():
    dataset = SimpleNamespace(identity=DATA, train=range(512))
    found = planning.configurations([ROWS["cnn2-zero"]], SMOKE, 1, ["schedule.max_columns=1"])
    with pytest.raises(ConfigError, match="max_columns"):
        planning.runs(found, dataset)  # type: ignore[arg-type]


@pytest.fixture
def measured(monkeypatch) -> list[str]:
    """In place of measuring a step: the networks of which one was measured."""
    networks = []

    def measure(config):
        networks.append(config.model.name)
        return (0.4, 2.0)

    monkeypatch.setattr(estimate, "_measure", measure)
    return networks


def test_a_step_is_measured_once_for_each_network_setting_and_machine(measured, tmp_path):
    def step(name: str, *overrides: str, **here) -> estimate.StepTime:
        return estimate.step_time(tmp_path, planned(name, *overrides).config, HERE | here, lambda text: None)

    assert [step(name) for name in ("cnn2-full", "cnn2-zero", "vgg19-full")] == [(0.4, 2.0)] * 3
    assert measured == ["cnn2", "vgg19"]
    step("cnn2-random", "train.batch_size=64")
    step("cnn2-random", cpu_count=8)
    assert measured == ["cnn2", "vgg19", "cnn2", "cnn2"]
    for _ in range(2):
        step("cnn2-zero", "train.batch_size=64", "train.epochs=9")
    assert len(measured) == 4


def test_what_is_left_of_a_run_is_steps_validations_and_compiling():
    run = planned("cnn2-zero", "train.epochs=6", "train.validate_every=2")
    step = (0.3, 5.0)
    whole = estimate.seconds(run, step, 0, validation_images=1280)
    assert whole == pytest.approx(6 * 4 * 0.3 + 3 * 10 * 0.1 + 3 * 5)
    assert estimate.seconds(run, step, 5, validation_images=1280) == pytest.approx(4 * 0.3 + 10 * 0.1 + 3 * 5)


@pytest.mark.parametrize("content", ["{", '[{"step_seconds": 1}]', '"no table"'])
def test_measured_steps_that_cannot_be_read_are_measured_again(content, measured, tmp_path: Path):
    (tmp_path / estimate.STEPS).write_text(content)
    estimate.step_time(tmp_path, planned().config, HERE, lambda text: None)
    assert measured == ["cnn2"]
    assert json.loads((tmp_path / estimate.STEPS).read_text()) == {"cnn2, 128, float32, cpu, fast, 2": [0.4, 2.0]}
