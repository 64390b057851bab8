"""The paper's tables and figures: what they need, and what the paper prints."""

from __future__ import annotations

import pytest

from approxtrain.config import plain
from approxtrain.errors import ConfigError
from approxtrain.paper import experiments
from approxtrain_kernels.shapes import PAPER

ROWS = {row.name: row for row in experiments.rows()}
PLAIN = {name: plain(row.config()) for name, row in ROWS.items()}


@pytest.mark.parametrize("name", ROWS)
def test_the_configuration_of_a_row_is_that_of_no_other_row(name):
    assert experiments.row_of(PLAIN[name]) == ROWS[name]


@pytest.mark.parametrize("name", ["cnn2-approx", "resnet20-pooled", "vgg19-full"])
def test_a_run_is_of_its_row_whatever_its_seed_length_images_and_dispatch_are(name):
    row = ROWS[name]
    others = ["train.seed=3", "train.epochs=2", "data.name=shapes", "schedule.dispatch=host", "train.chunk=4"]
    assert experiments.row_of(plain(row.config(others))) == row
    assert experiments.row_of(plain(row.config(["schedule={ name = 'schedule3' }"]))) != row


@pytest.mark.parametrize(
    "more",
    [
        "image_sizes=[{ size = 24 }]",
        "image_shares=[{ share = 0.5 }]",
        'bypass=[{ path = "x", to = 1 }]',
        "local=[{ every = 8 }]",
    ],
)
def test_what_is_more_than_methods_is_no_row(more):
    config = plain(ROWS["cnn2-full"].config([f"schedule.{more}"]))
    assert experiments.row_of(config) is None
    assert not experiments.is_exact(config)
    assert experiments.is_exact(PLAIN["cnn2-full"])


def test_a_parameter_at_its_default_is_the_same_method():
    row = ROWS["cnn2-approx"]
    assert experiments.row_of(plain(row.config(["schedule.params.scale=1.0", "schedule.params.k=1"]))) == row
    assert experiments.row_of(plain(row.config(["schedule.params.k=2"]))) is None


def test_a_schedule_that_this_version_cannot_read_is_no_rows():
    config = PLAIN["cnn2-zero"]
    strange = config | {"schedule": config["schedule"] | {"method": "of tomorrow"}}
    assert experiments.row_of(strange) is None


def test_a_schedule_that_counts_steps_against_epochs_is_no_rows():
    rule = {"method": "zero", "layers": [2], "steps": {"start": 100}, "epochs": {"to": 3}}  # fine, with 390 an epoch
    config = PLAIN["cnn2-zero"] | {"schedule": {"rules": [rule]}}
    assert experiments.row_of(config) is None


@pytest.mark.parametrize("name", ["table2", "table3", "table4", "table5"])
def test_an_accuracy_table_has_the_baselines_both_scales_and_what_the_paper_does_not_have(name):
    table = experiments.get(name)
    labels = [row.label for row in table.rows]
    assert {"Full Gradient", "Zero Gradient", "Random Gradient", "Approx. Gradient"} <= set(labels)
    assert ("ResNet-14" in labels) == (table.model == "resnet20")
    assert {row.label for row in table.rows if row.ours} == {"Approx. Gradient, scale 1", "Pooled Gradient, 2×2"}
    scales = {row.label: row.config().schedule.cell().params.get("scale") for row in table.rows if "approx" in row.name}
    assert scales == {"Approx. Gradient": "paper", "Approx. Gradient, scale 1": 1.0}
    assert table.baseline.config().schedule.name == "full"


def test_pooled_stands_in_every_layer_but_the_first():
    (rule,) = ROWS["vgg19-pooled"].config().schedule.rules or ()
    assert (rule.method, rule.layers.start, rule.layers.every, rule.layers.stop) == ("pooled", 2, 1, None)


def test_tables_and_figures_share_their_runs():
    names = [row.name for name in ("table3", "figure6", "table5", "figure8") for row in experiments.get(name).rows]
    assert len(set(names)) == 15  # full, 3 schedules of 4 methods, pooled, ResNet-14
    assert {row.group for row in experiments.get("figure8").rows} == {"", "schedule 2", "schedule 3"}
    assert "resnet14-full" not in [row.name for row in experiments.get("figure6").rows]


def test_table_1_as_printed_agrees_with_itself_and_with_the_shapes_that_are_timed():
    for row in experiments.TABLE1:
        assert row.kernel + row.transpose == pytest.approx(row.total, abs=0.006)
        assert row.cudnn / row.total == pytest.approx(row.speed_up, abs=0.1)
    sizes = [(row.in_channels, row.out_channels, row.size, row.size) for row in experiments.TABLE1]
    assert sizes == [(shape.in_channels, shape.out_channels, shape.height, shape.width) for shape in PAPER]


def test_tables_3_and_5_as_printed_agree_within_their_rounding():
    losses = {row.name: row.paper.accuracy_loss for row in experiments.get("table3").rows}
    accuracies = {row.name: row.paper.accuracy for row in experiments.get("table5").rows}
    assert losses.pop("resnet20-pooled") is accuracies["resnet20-pooled"] is None
    assert len(losses) == 6
    for name, loss in losses.items():
        assert 91.8 - accuracies[name] == pytest.approx(loss, abs=0.06)


def test_the_method_of_a_row_is_that_of_its_configuration():
    methods = {name: row.method for name, row in ROWS.items()}
    assert {name.split("-")[-1]: method for name, method in methods.items()} == {
        "full": "full",
        "zero": "zero",
        "random": "random",
        "paper": "approx",
        "approx": "approx",
        "pooled": "pooled",
    }
    grid = {"grid": [["full", "mine"]], "cells": {"mine": {"method": "of-a-later-version"}}}
    assert experiments.method_of({"schedule": grid}) == "of-a-later-version"
    assert experiments.method_of({"schedule": {"grid": [["full", "skip"]]}}) == "skip"


def test_an_experiment_that_the_paper_does_not_have_is_an_error_that_names_those_it_has():
    with pytest.raises(
        ConfigError, match=r"no 'table6' .* there are table1, .*, figure8 and all\. Did you mean 'table"
    ):
        experiments.get("table6")
