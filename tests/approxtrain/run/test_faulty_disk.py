"""Saves, rows, imports and downloads on a disk that fails, under a process that ends, and at a power cut.

What is done and what must hold is in tools/soak/scenarios.py; `make soak` runs more power cuts of each.
"""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path
from typing import Any

import pytest

from approxtrain import disk
from tools.soak import faults
from tools.soak.faults import Case, cases, operations, outcome
from tools.soak.faulty_disk import Crash, Fault, FaultyDisk, Power
from tools.soak.scenarios import SCENARIOS, Scenario

LOST, KEPT = (Power(names, "lost", random.Random(0)) for names in ("lost", "kept"))
MANY = ("rows", "resume")
"""Scenarios with so many operations that each at each point is for `make soak` and the long tests."""


def marked(scenario: Scenario) -> Any:
    return pytest.param(scenario, id=scenario.name, marks=[pytest.mark.long] if scenario.name in MANY else [])


each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


def found(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


@each_scenario
def test_what_was_finished_outlasts_a_power_cut(tmp_path: Path, scenario: Scenario) -> None:
    finishes = faults.finishes(scenario, tmp_path / "disk")
    assert finishes
    for at, power in itertools.product(finishes, (LOST, KEPT)):
        assert outcome(scenario, tmp_path / "disk", Case(Fault(at), power)) is None


@each_scenario
def test_nothing_is_lost_at_every_23rd_file_operation(tmp_path: Path, scenario: Scenario) -> None:
    for at, operation in list(enumerate(operations(scenario, tmp_path / "disk")))[::23]:
        every = list(cases(at, operation, draws=1))
        case = every[at // 23 % len(every)]
        assert outcome(scenario, tmp_path / "disk", case) is None, (operation, case)


@pytest.mark.parametrize("scenario", [SCENARIOS[0], *SCENARIOS[-2:]], ids=lambda scenario: scenario.name)
def test_what_a_crash_leaves_behind_is_in_nobodys_way(tmp_path: Path, scenario: Scenario) -> None:
    for at in range(0, len(operations(scenario, tmp_path / "disk")), 3):
        assert outcome(scenario, tmp_path / "disk", Case(Fault(at))) is None


@pytest.mark.gate
@pytest.mark.parametrize("scenario", [marked(scenario) for scenario in SCENARIOS])
def test_nothing_is_lost_at_any_file_operation(tmp_path: Path, scenario: Scenario) -> None:
    for at, operation in enumerate([*operations(scenario, tmp_path / "disk"), "read nothing more"]):
        for case in (*cases(at, operation), *faults.power_cuts(at)):
            assert outcome(scenario, tmp_path / "disk", case) is None, (operation, case)


def test_a_power_cut_takes_what_was_not_flushed(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    (root / "old").write_text("old")
    watched = FaultyDisk(root)
    with watched.watched():
        (root / "old").write_text("new")
        (root / "folder").mkdir()
        (root / "folder/flushed").write_text("flushed")
        disk.sync(root / "folder/flushed")
        (root / "folder/unflushed").write_text("unflushed")
        (root / "moved").write_text("moved")
        os.replace(root / "moved", root / "there")
    watched.cut_power(KEPT)
    assert found(root) == {"old": "old", "folder/flushed": "flushed", "folder/unflushed": "", "there": ""}
    watched.cut_power(LOST)
    assert found(root) == {"old": "old"}


def test_a_rename_stays_when_its_folder_was_flushed(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    watched = FaultyDisk(root)
    with watched.watched():
        disk.write(root / "file", "content")
    watched.cut_power(LOST)
    assert found(root) == {"file": "content"}


def test_a_crash_leaves_half_of_a_write_and_lets_nothing_follow(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    watched = FaultyDisk(root, Fault(1))
    with watched.watched():
        with pytest.raises(Crash):
            (root / "file").write_text("content!")
        with pytest.raises(Crash):
            (root / "file").unlink()
    assert watched.done == ["open file", "write file"]
    assert found(root) == {"file": "cont"}
