"""How long a run will take here, from steps that were measured. Imports no jax.

    steps · seconds a step + validations · images / batch · FORWARD · seconds a step + (columns + 1) · compiling

A step's seconds come from the nearest of: runs of the same network and schedule, runs of the same network, a few steps
of the exact network (`measure`). All on this device, at the same batch size and precision.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from approxtrain import config, disk
from approxtrain.config import Config
from approxtrain.paper.runs import Planned
from approxtrain.run.archive import ELSEWHERE, Archive

STEPS = ".steps.json"
FORWARD = 1 / 3
"""Of a training step, what it takes to run the network forward on as many images."""
COMPILING = 15.0
"""Seconds a column where nothing tells."""

_DEVICE = ("device", "processor", "cpu_count")
_KEYS = {"config", "step_seconds", "compile_seconds", "environment"}


@dataclass(frozen=True)
class Step:
    """What a step is expected to take, in seconds."""

    seconds: float
    compile_seconds: float
    """Of one column."""
    source: str
    """"3 runs of resnet20-schedule1-zero", "measured steps of resnet20"."""


def step(
    planned: Planned, archives: Sequence[Archive], measured: Sequence[dict[str, Any]], here: dict[str, Any]
) -> Step | None:
    """The nearest that is known in the environment `here`; None where nothing is.

    `measured` is what `read` gave.
    """
    timed = [each for each in archives if _seconds(each)]
    alike = [each for each in timed if _comparable(each.environment, each.config, planned.config, here)]
    schedule = _schedule(config.plain(planned.config))
    same = [each for each in alike if _schedule(each.config) == schedule]
    for found, name in ((same, planned.row.name), (alike, planned.config.model.name)):
        if found:
            runs = "1 run" if len(found) == 1 else f"{len(found)} runs"
            taken = median(median(_seconds(each)) for each in found)
            return Step(taken, median(_compiling(each) for each in found), f"{runs} of {name}")
    for each in measured:
        if _comparable(each["environment"], each["config"], planned.config, here):
            return _of_entry(each)
    return None


def seconds(planned: Planned, found: Step, epochs_done: int, validation_images: int) -> float:
    """Seconds that are left of a run that has `epochs_done` behind it."""
    train = planned.config.train
    left = range(epochs_done + 1, train.epochs + 1)
    validations = sum(epoch % train.validate_every == 0 or epoch == train.epochs for epoch in left)
    steps = len(left) * config.steps_per_epoch(planned.config)
    forward = validations * validation_images / train.batch_size * FORWARD
    programs = len(planned.schedule.columns) + 1  # and the one that validates
    return (steps + forward) * found.seconds + programs * found.compile_seconds


def read(folder: Path) -> list[dict[str, Any]]:
    """The measured steps in `folder`; none where the file is missing or damaged: they are soon measured again."""
    try:
        found = json.loads((folder / STEPS).read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return (
        [each for each in found if isinstance(each, dict) and each.keys() >= _KEYS] if isinstance(found, list) else []
    )


def add(folder: Path, of: Config, step_seconds: float, compile_seconds: float, environment: dict[str, Any]) -> Step:
    """Write the measured step of the network of `of` to those in `folder`. DiskError."""
    times = {"step_seconds": step_seconds, "compile_seconds": compile_seconds}
    entry = {"config": config.plain(of), **times, "environment": environment}
    disk.write_json(folder / STEPS, [*read(folder), entry])
    return _of_entry(entry)


def _of_entry(entry: dict[str, Any]) -> Step:
    source = f"measured steps of {entry['config']['model']['name']}"
    return Step(entry["step_seconds"], entry["compile_seconds"], source)


def _seconds(found: Archive) -> list[float]:
    """Seconds a step of each epoch; none of a run that trained several seeds at once."""
    if found.summary.get("seeds", 1) > 1:
        return []
    return [row["seconds"] / row["steps"] for row in found.epochs if row.get("steps")]


def _schedule(plain: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in plain["schedule"].items() if key not in ELSEWHERE["schedule"]}


def _compiling(found: Archive) -> float:
    columns = found.summary.get("columns")
    return found.summary["compile_seconds"] / columns if columns else COMPILING


def _comparable(environment: dict[str, Any], own: dict[str, Any], wanted: Config, here: dict[str, Any]) -> bool:
    train = own["train"]
    size = (own["model"]["name"], train["batch_size"], train.get("precision", "float32"))
    same = size == (wanted.model.name, wanted.train.batch_size, wanted.train.precision)
    return same and all(environment.get(key) == here.get(key) for key in _DEVICE)
