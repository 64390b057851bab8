"""Stages: programs that run one after the other, each within its own time, and a record that is never behind.

A stage that fails or takes too long is recorded, and the next one starts, unless it was `needed`. The record is
written after each stage, so that being cut off costs the stage that was running and nothing else. Imports no jax.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from approxtrain import disk

RECORD = "stages.json"
GRACE_SECONDS = 5.0
"""Between being asked to end and being ended."""


@dataclass(frozen=True)
class Stage:
    """One program. `file` is the JSON that it writes in the folder of results."""

    name: str
    what: str
    command: tuple[str, ...]
    seconds: float
    file: str
    environment: Mapping[str, str]
    needed: bool = False
    """Without it the rest makes no sense."""


@dataclass(frozen=True)
class Outcome:
    name: str
    status: str
    """"ok", "failed", "out of time", or "not run"."""
    seconds: float
    limit_seconds: float
    exit_code: int | None
    file: str | None
    """Written by this very stage, whole; None where it was not."""
    why: str = ""


def run(
    stages: Sequence[Stage],
    folder: Path,
    total_seconds: float,
    on_start: Callable[[Stage, float], None] = lambda stage, limit: None,
    on_end: Callable[[Stage, Outcome], None] = lambda stage, outcome: None,
) -> list[Outcome]:
    """Run all stages in `total_seconds`. Output goes to NAME.log, outcomes to stages.json in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + total_seconds
    outcomes: list[Outcome] = []
    stop = ""
    for stage in stages:  # what an earlier run left would pass for this one's
        (folder / stage.file).unlink(missing_ok=True)
    for stage in stages:
        limit = min(stage.seconds, deadline - time.monotonic())
        if stop or limit <= 0:
            outcome = Outcome(stage.name, "not run", 0.0, max(limit, 0.0), None, None, stop or "no time was left")
        else:
            on_start(stage, limit)
            outcome = _run(stage, folder, limit)
        if stage.needed and outcome.status != "ok":
            stop = stop or f"{stage.name} has to succeed first"
        outcomes.append(outcome)
        _record(outcomes, stages, folder)
        on_end(stage, outcome)
    return outcomes


def _run(stage: Stage, folder: Path, limit: float) -> Outcome:
    file = folder / stage.file
    start = time.monotonic()
    why, code = "", None
    with (folder / f"{stage.name}.log").open("w", encoding="utf-8") as log:
        try:
            process = subprocess.Popen(
                stage.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | dict(stage.environment),
                start_new_session=True,
            )
        except OSError as error:
            why = f"{Path(stage.command[0]).name}: {error.strerror}"
        else:
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                why = f"it took longer than {limit:.0f} s"
            finally:
                _end(process)
    status = "out of time" if why.startswith("it took") else "ok" if code == 0 else "failed"
    if status == "ok" and not file.is_file():
        status, why = "failed", f"it wrote no {stage.file}"
    elif status == "failed" and not why:
        why = f"exit code {code}; see {stage.name}.log"
    written = stage.file if file.is_file() else None
    return Outcome(stage.name, status, time.monotonic() - start, limit, code, written, why)


def _end(process: subprocess.Popen[Any]) -> None:
    """End a stage with all that it started: they form a process group of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _record(outcomes: list[Outcome], stages: Sequence[Stage], folder: Path) -> None:
    what = {stage.name: stage.what for stage in stages}
    rows = [{"what": what[outcome.name]} | asdict(outcome) for outcome in outcomes]
    left = [stage.name for stage in stages[len(outcomes) :]]
    disk.write_json(folder / RECORD, {"command": "make gpu-bench", "stages": rows, "left": left})
