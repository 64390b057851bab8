"""What a run notes in its folder besides rows and summary: how it began, and that it diverged.

`begun.json`     data set, trajectory number and environment, from the first step on
`diverged.json`  step, loss and message, from the moment it diverges; gone once a resumed run has saved a later step
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from approxtrain import disk
from approxtrain.errors import ConfigError, DivergedError
from approxtrain.run import trajectory

BEGUN, DIVERGED = "begun.json", "diverged.json"


def begin(folder: Path, step: int, data: dict[str, Any], environment: dict[str, Any]) -> int:
    """Note how a run begins, or goes on from `step` > 0. → the trajectory number of the whole run."""
    ours, before = trajectory.TRAJECTORY, begun(folder)
    number = ours if step == 0 or before.get("trajectory") == ours else trajectory.UNKNOWN
    disk.write_json(folder / BEGUN, {"data": data, "trajectory": number, "environment": environment})
    return number


def begun(folder: Path) -> dict[str, Any]:
    """What `begin` noted; empty for a run of an earlier version of this program."""
    return _read(folder / BEGUN) or {}


def diverge(folder: Path, error: DivergedError) -> None:
    """Note that the run in `folder` has diverged."""
    loss = None if error.loss is None else str(error.loss)
    disk.write_json(folder / DIVERGED, {"step": error.step, "loss": loss, "message": str(error)})


def diverged(folder: Path) -> dict[str, Any] | None:
    """Where and how the run diverged; None where it did not."""
    return _read(folder / DIVERGED)


def saved(folder: Path, step: int) -> None:
    """A checkpoint after `step` steps is in place: what diverged at an earlier one did not do so this time."""
    if (note := diverged(folder)) and note["step"] < step:
        with disk.explained(folder / DIVERGED):
            (folder / DIVERGED).unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"`{path}` cannot be read: {error}. Remove it; the run goes on without it.") from None
