"""Forks that disturb neither the run nor each other."""

from __future__ import annotations

import json
import signal
from dataclasses import replace

import jax
import numpy as np
import pytest

from approxtrain.errors import ConfigError, InterruptedRun
from approxtrain.run import record
from approxtrain.run.folder import RunFolder
from approxtrain.schedule import ScheduleConfig
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run
from approxtrain.training.trackers import Several
from approxtrain.worth.fork_file import ForkFile
from approxtrain.worth.forks import EXACT_ARMS, Arm, Forks, due, epochs_to_fork, falling, planned
from approxtrain.worth.shares import rows

ZERO = Arm("zero", ScheduleConfig.model_validate({"rules": [{"method": "zero", "layers": {"start": 2}}]}))
ARMS = [*EXACT_ARMS, ZERO]
STEPS, SEEDS, AT = 4, 2, [1, 2]


def test_the_rate_of_a_fork_falls_from_that_of_the_run_to_zero():
    rate = falling(lambda count: 0.1 / (1 + count), steps_per_epoch=10, steps=4)
    assert [float(rate(20 + i)) for i in range(5)] == pytest.approx([0.1 / 21 * f for f in (1, 0.75, 0.5, 0.25, 0)])


def test_epochs_are_spread_and_the_cost_is_that_of_all_steps():
    assert epochs_to_fork(20, 5) == [1, 6, 10, 14, 19]
    assert epochs_to_fork(3, 5) == [1, 2]
    assert planned(ARMS, AT, STEPS, SEEDS) == 2 * 2 * (2 + 3 + 4 + 4)
    first = replace(ZERO, begins=True)
    assert planned([*EXACT_ARMS, first], AT, STEPS, SEEDS) == 2 * (2 * (2 + 3 + 4) + 4)
    assert [due([ZERO, first], AT, epoch) for epoch in AT] == [[ZERO, first], [ZERO]]


class Stop:
    """Ends a run before the fork of that number, as kill −9 would."""

    def __init__(self, fork: int) -> None:
        self.left = fork

    def __call__(self, text: str) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def measured(config, path, told=lambda text: None, seeds=SEEDS) -> list:
    """Train the exact run in `path`, fork it, and return the forks."""
    file = ForkFile(path / "worth.json", {"seeds": seeds})
    forks = Forks(ARMS, AT, STEPS, seeds, file, told)
    exact = path / "exact"
    with RunFolder.open(exact) if exact.exists() else RunFolder.create(exact) as run:
        Run(config, run, Several(forks)).train()
    return json.loads((path / "worth.json").read_text())["forks"]


@pytest.fixture(scope="module")
def config(configure):
    return configure({"name": "full"}, epochs=3)


@pytest.fixture(scope="module")
def folder(config, tmp_path_factory):
    """Of a measurement that nothing stopped."""
    path = tmp_path_factory.mktemp("whole")
    measured(config, path)
    return path


@pytest.fixture
def whole(folder):
    return json.loads((folder / "worth.json").read_text())["forks"]


def figures(forks) -> dict:
    return {(fork["epoch"], fork["arm"]): (fork["losses"], fork["accuracies"], fork["steps"]) for fork in forks}


@pytest.mark.gate
def test_each_arm_forks_after_each_epoch_and_the_run_is_that_without_forks(config, whole, folder, tmp_path):
    assert [(fork["epoch"], fork["arm"]) for fork in whole] == [(epoch, arm.name) for epoch in AT for arm in ARMS]
    assert [fork["steps"] for fork in whole[:4]] == [2, 3, 4, 4]
    assert all(len(set(fork["losses"])) == SEEDS for fork in whole)  # each has an order of its own
    with RunFolder.create(tmp_path / "alone") as alone:
        Run(config, alone, Listener()).train()
    assert (folder / "exact" / record.METRICS).read_bytes() == (tmp_path / "alone" / record.METRICS).read_bytes()


@pytest.mark.gate
def test_a_fork_that_ends_exact_is_that_of_rules_which_end(config, tmp_path):
    rule = {"method": "zero", "layers": {"start": 2}, "steps": {"stop": 8}}  # an epoch has six steps
    ended = Arm("rules that end", ScheduleConfig.model_validate({"rules": [rule]}))
    half = replace(ZERO, until=0.5)
    file = ForkFile(tmp_path / "worth.json", {})
    forks = Forks([*EXACT_ARMS, half, ended], [1], STEPS, 1, file, lambda text: None, aligned=False)
    with RunFolder.create(tmp_path / "exact") as run:
        Run(config, run, Several(forks)).train()
    *_, exact, by_part, by_rules = file.forks
    assert by_part.losses == pytest.approx(by_rules.losses, rel=1e-6)
    assert by_part.losses != exact.losses
    assert (by_part.until, by_rules.until) == (0.5, 1.0)


@pytest.mark.gate
def test_a_measurement_that_is_killed_goes_on_and_comes_to_the_same(config, whole, folder, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        measured(config, tmp_path, Stop(7))
    assert len(json.loads((tmp_path / "worth.json").read_text())["forks"]) == 5
    assert figures(measured(config, tmp_path)) == figures(whole)
    files = [json.loads((path / "worth.json").read_text()) for path in (tmp_path, folder)]
    assert files[0]["alignments"] == files[1]["alignments"] != []
    assert (tmp_path / "exact" / record.METRICS).read_bytes() == (folder / "exact" / record.METRICS).read_bytes()


@pytest.mark.long
def test_the_first_of_two_seeds_is_the_one_alone(config, whole, tmp_path):
    one = figures(measured(config, tmp_path, seeds=1))
    for key, (losses, accuracies, steps) in figures(whole).items():
        assert one[key] == (pytest.approx(losses[:1], rel=1e-4), accuracies[:1], steps)


@pytest.mark.gate
@pytest.mark.parametrize("epoch", [0, 1])
def test_a_signal_between_forks_ends_the_run_there_and_it_goes_on_to_the_same(epoch, config, tmp_path):
    at, seen = [epoch, 2], []

    def told(text):
        seen.append(text)
        if len(seen) == 2:
            signal.raise_signal(signal.SIGTERM)

    def forked(path, told):
        file = ForkFile(path / "worth.json", {})
        exact = path / "exact"
        with RunFolder.open(exact) if exact.exists() else RunFolder.create(exact) as run:
            Run(config, run, Several(Forks(ARMS, at, STEPS, 1, file, told, aligned=False))).train()
        return figures(json.loads((path / "worth.json").read_text())["forks"])

    with pytest.raises(InterruptedRun, match=f"after step {6 * epoch}, which is saved"):
        forked(tmp_path / "stopped", told)
    assert len(ForkFile(tmp_path / "stopped/worth.json", {}).forks) < len(ARMS)
    assert forked(tmp_path / "stopped", print) == forked(tmp_path / "whole", print)


@pytest.mark.gate
def test_where_all_schedules_are_exact_there_is_nothing_to_align(config, tmp_path):
    file, told = ForkFile(tmp_path / "worth.json", {}), []
    forks = Forks(EXACT_ARMS[:1], [0], 1, 1, file, told.append)
    with RunFolder.create(tmp_path / "exact") as run:
        Run(config.model_copy(update={"train": config.train.model_copy(update={"epochs": 1})}), run, forks).train()
    assert (len(file.forks), file.alignments) == (1, [])
    assert told == ["epoch 0: fork 1 of 1, exact, 50% of the images"]


@pytest.mark.gate
def test_a_table_has_a_row_for_each_epoch_and_one_for_all(folder):
    forks = ForkFile(folder / "worth.json", {"seeds": SEEDS}).forks
    found = rows(forks, {"zero": {"1": 0.7, "2": 0.9}})
    assert [(row.arm, row.epoch, row.time) for row in found] == [
        ("zero", 1, 0.7),
        ("zero", 2, 0.9),
        ("zero", None, 0.8),
    ]
    assert [row.loss for row in found[:2]] == [np.mean(fork.losses) for fork in forks if fork.arm == "zero"]
    assert rows([fork for fork in forks if not fork.arm.startswith("exact")], {}) == []


@pytest.mark.gate
def test_a_measurement_with_other_settings_is_not_gone_on_with(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"other settings \(seeds\)"):
        ForkFile(folder / "worth.json", {"seeds": 3})
    (tmp_path / "worth.json").write_text("[]")
    with pytest.raises(ConfigError, match="not what this command writes"):
        ForkFile(tmp_path / "worth.json", {"seeds": SEEDS})


def test_a_fork_longer_than_an_epoch_is_refused(config, tmp_path):
    forks = Forks(ARMS, AT, 7, SEEDS, ForkFile(tmp_path / "worth.json", {}), print)
    refused = pytest.raises(ConfigError, match=r"--steps \(=7\) is more than the 6 steps")
    with refused, RunFolder.create(tmp_path / "exact") as run:
        Run(config, run, forks).train()


def test_the_state_that_is_told_is_that_of_the_checkpoint(config, tmp_path):
    class States(Listener):
        def __init__(self):
            self.steps = []

        def state(self, epoch, state):
            self.steps.append((epoch, int(state.step), jax.tree.leaves(state.params)[0].shape[0]))

    listener = States()
    with RunFolder.create(tmp_path / "run") as run:
        Run(config, run, listener).train()
    assert listener.steps == [(0, 0, 1), (1, 6, 1), (2, 12, 1), (3, 18, 1)]
