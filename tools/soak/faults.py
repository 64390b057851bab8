"""Every file operation of a scenario failed, the last before a crash, and the last before a power cut."""

from __future__ import annotations

import os
import random
import shutil
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from approxtrain.errors import ApproxtrainError
from tools.soak.faulty_disk import ERRORS, Crash, Fault, FaultyDisk, Power
from tools.soak.scenarios import Scenario


@dataclass(frozen=True)
class Case:
    """One fault, and where it ends the process, whether the power goes too."""

    fault: Fault
    power: Power | None = None


def cases(at: int, operation: str, draws: int = 3) -> Iterator[Case]:
    """All that can happen at `operation`, number `at`; `draws` power cuts that keep what they like."""
    for error in ERRORS:
        yield Case(Fault(at, error))
        yield Case(Fault(at, error, for_ever=True))
    if not operation.startswith("read "):
        yield Case(Fault(at))
        yield from power_cuts(at, draws)


def power_cuts(at: int, draws: int = 3) -> Iterator[Case]:
    draw = random.Random(at)
    yield Case(Fault(at), Power("lost", "lost", draw))
    yield Case(Fault(at), Power("kept", "lost", draw))
    for number in range(draws):
        yield Case(Fault(at), Power("drawn", "drawn", random.Random(f"{at} {number}")))


unflushed = mock.patch.object(os, "fsync", lambda descriptor: None)  # noqa: PT008
"""Flushes that cost nothing: whether they are asked for is what is looked at."""


@unflushed
def operations(scenario: Scenario, root: Path) -> list[str]:
    """The file operations of the scenario where nothing fails."""
    disk, done = _begin(scenario, root, None), []
    with disk.watched():
        scenario.act(root, done.append)
    return disk.done


@unflushed
def finishes(scenario: Scenario, root: Path) -> list[int]:
    """How many file operations came before each thing that was told as finished."""
    disk, counts = _begin(scenario, root, None), []
    with disk.watched():
        scenario.act(root, lambda _: counts.append(len(disk.done)))
    return counts


@unflushed
def outcome(scenario: Scenario, root: Path, case: Case) -> str | None:
    """What was lost, or shown as a traceback, in a case; None where nothing was."""
    disk, done = _begin(scenario, root, case.fault), []
    try:
        with disk.watched():
            scenario.act(root, done.append)
    except Crash:
        pass
    except ApproxtrainError:
        pass
    except Exception:
        return f"a traceback: {traceback.format_exc()}"
    if case.power:
        disk.cut_power(case.power)
    try:
        scenario.judge(root, done)
    except Exception:
        return f"lost: {traceback.format_exc()}"
    return None


def _begin(scenario: Scenario, root: Path, fault: Fault | None) -> FaultyDisk:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    scenario.prepare(root)
    return FaultyDisk(root, fault)
