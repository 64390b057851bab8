"""How long a run will take here, from steps that were measured. Imports no jax.

    steps · seconds a step + validations · images / batch · FORWARD · seconds a step + (columns + 1) · compiling

A step's seconds come from the nearest of: runs of the same network and schedule, runs of the same network, a few steps
of the exact network (`execute.measure_step`). All on this device, at the same batch size and precision.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from approxtrain import config, disk
from approxtrain.config import Config
from approxtrain.paper.planning import PlannedRun
from approxtrain.run.archive import ELSEWHERE, Archive

STEPS = ".steps.json"
FORWARD = 1 / 3
"""Share of a training step that it takes to run the network forward on as many images."""
COMPILING = 15.0
"""Seconds a column where nothing tells."""


class StepTime(NamedTuple):
    """What a step is expected to take, in seconds."""

    seconds: float
    compile_seconds: float
    """The time to compile one column."""
    source: str
    """"3 runs of resnet20-schedule1-zero", "measured steps of resnet20"."""


def step(
    planned: PlannedRun, archives: Sequence[Archive], measured: Sequence[dict[str, Any]], here: dict[str, Any]
) -> StepTime | None:
    """The nearest that is known in the environment `here`; None where nothing is.

    `measured` is what `read` gave.
    """
    wanted = config.plain(planned.config)
    alike = [
        run for run in archives if _seconds(run) and _setting(run.config, run.environment) == _setting(wanted, here)
    ]
    same = [run for run in alike if _schedule(run.config) == _schedule(wanted)]
    for runs, name in ((same, planned.row.name), (alike, planned.config.model.name)):
        if runs:
            source = f"{len(runs)} run{'s' if len(runs) > 1 else ''} of {name}"
            return StepTime(median(median(_seconds(run)) for run in runs), median(map(_compiling, runs)), source)
    near = (entry for entry in measured if _setting(entry["config"], entry["environment"]) == _setting(wanted, here))
    return next(map(_of_entry, near), None)


def seconds(planned: PlannedRun, time: StepTime, epochs_done: int, validation_images: int) -> float:
    """Seconds that are left of a run that has `epochs_done` behind it."""
    train = planned.config.train
    left = range(epochs_done + 1, train.epochs + 1)
    validations = sum(epoch % train.validate_every == 0 or epoch == train.epochs for epoch in left)
    steps = len(left) * planned.steps_per_epoch
    forward = validations * validation_images / train.batch_size * FORWARD
    programs = len(planned.schedule.columns) + 1  # and the one that validates
    return (steps + forward) * time.seconds + programs * time.compile_seconds


def read(folder: Path) -> list[dict[str, Any]]:
    """The measured steps in `folder`; none where the file is missing or damaged: they are soon measured again."""
    keys = {"config", "step_seconds", "compile_seconds", "environment"}
    try:
        entries = json.loads((folder / STEPS).read_text("utf-8"))
        return [entry for entry in entries if entry.keys() >= keys]
    except (OSError, ValueError, AttributeError, TypeError):
        return []


def add(folder: Path, of: Config, step_seconds: float, compile_seconds: float, environment: dict[str, Any]) -> StepTime:
    """Write the measured step of the network of `of` to those in `folder`. DiskError."""
    times = {"step_seconds": step_seconds, "compile_seconds": compile_seconds}
    entry = {"config": config.plain(of), **times, "environment": environment}
    disk.write_json(folder / STEPS, [*read(folder), entry])
    return _of_entry(entry)


def _of_entry(entry: dict[str, Any]) -> StepTime:
    source = f"measured steps of {entry['config']['model']['name']}"
    return StepTime(entry["step_seconds"], entry["compile_seconds"], source)


def _seconds(run: Archive) -> list[float]:
    """Seconds a step of each epoch; none of a run that trained several seeds at once."""
    if run.summary.get("seeds", 1) > 1:
        return []
    return [row["seconds"] / row["steps"] for row in run.epochs if row.get("steps")]


def _schedule(plain: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in plain["schedule"].items() if key not in ELSEWHERE["schedule"]}


def _compiling(run: Archive) -> float:
    columns = run.summary.get("columns")
    return run.summary["compile_seconds"] / columns if columns else COMPILING


def _setting(plain: dict[str, Any], environment: dict[str, Any]) -> tuple[Any, ...]:
    """What two runs must have in common for a step of one to tell about the other."""
    machine = (environment.get(key) for key in ("device", "processor", "cpu_count"))
    return plain["model"]["name"], *(plain["train"][key] for key in ("batch_size", "precision")), *machine
