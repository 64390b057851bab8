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
    """One program."""

    name: str
    what: str
    command: tuple[str, ...]
    seconds: float
    environment: Mapping[str, str]
    file: str | None = None
    """The JSON that it writes in the folder of results, if any."""
    needed: bool = False
    """Without it the rest makes no sense."""


@dataclass(frozen=True)
class Outcome:
    name: str
    what: str
    status: str
    """"ok", "failed", "out of time", or "not run"."""
    seconds: float
    limit_seconds: float
    exit_code: int | None = None
    file: str | None = None
    """Written by this very stage; None where it was not."""
    why: str = ""


def run(
    stages: Sequence[Stage],
    folder: Path,
    total_seconds: float,
    on_end: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Run all stages in `total_seconds`. Output goes to NAME.log, outcomes to stages.json in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + total_seconds
    outcomes: list[Outcome] = []
    stop = ""
    for stage in stages:  # what an earlier run left would pass for this one's
        for file in filter(None, (stage.file, f"{stage.name}.log")):
            (folder / file).unlink(missing_ok=True)
    for number, stage in enumerate(stages, start=1):
        limit = max(min(stage.seconds, deadline - time.monotonic()), 0.0)
        if stop or not limit:
            outcome = Outcome(stage.name, stage.what, "not run", 0.0, limit, why=stop or "no time was left")
        else:
            outcome = _run(stage, folder, limit)
        if stage.needed and outcome.status != "ok":
            stop = stop or f"{stage.name} has to succeed first"
        outcomes.append(outcome)
        left = [each.name for each in stages[number:]]
        record = {"command": "make gpu-bench", "stages": list(map(asdict, outcomes)), "left": left}
        disk.write_json(folder / RECORD, record)
        on_end(outcome)
    return outcomes


def _run(stage: Stage, folder: Path, limit: float) -> Outcome:
    start, status, why, code = time.monotonic(), "failed", "", None
    with (folder / f"{stage.name}.log").open("w", encoding="utf-8") as log:
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
        options |= {"env": os.environ | dict(stage.environment), "start_new_session": True}
        try:
            process = subprocess.Popen(stage.command, **options)
            try:
                code = process.wait(limit)
                why = f"exit code {code}; see {stage.name}.log" if code else ""
            finally:
                _end(process)
        except OSError as error:
            why = f"{Path(stage.command[0]).name}: {error.strerror}"
        except subprocess.TimeoutExpired:
            status, why = "out of time", f"it took longer than {limit:.0f} s"
    written = stage.file if stage.file and (folder / stage.file).is_file() else None
    if not why:
        status, why = ("ok", "") if written == stage.file else ("failed", f"it wrote no {stage.file}")
    return Outcome(stage.name, stage.what, status, time.monotonic() - start, limit, code, written, why)


def _end(process: subprocess.Popen[Any]) -> None:
    """End a stage with all that it started: they form a process group of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(GRACE_SECONDS)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()
