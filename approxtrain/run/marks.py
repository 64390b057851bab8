"""What a run notes in its folder besides rows and summary: how it began, and that it diverged.

`begun.json`     data set, trajectory number and environment, from the first step on; `chunk`, once it is decided
`diverged.json`  step, loss and message, from the moment it diverges; gone once a resumed run has saved a later step
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from approxtrain import disk
from approxtrain.errors import ConfigError, DivergedError

TRAJECTORY = 1
"""The number of the trajectories that this program computes.

Two runs of one configuration on the same images take the same steps, up to rounding, if this number is the same. It is
part of a run's identity (`archive.identity`), by which `reproduce` knows what it need not run again; the commit is
recorded, but most commits change no trajectory.

Raise it by hand when the losses of tests/approxtrain/training/test_golden.py change by more than their tolerance, and
when the default of a key of the configuration changes.
"""

UNKNOWN = 0
"""The trajectory number of a run that programs of different numbers went on with: equal to no program's."""

BEGUN, DIVERGED = "begun.json", "diverged.json"


def begin(folder: Path, resumed: bool, data: dict[str, Any], environment: dict[str, Any]) -> int:
    """Note how a run begins, or goes on from a checkpoint. → the trajectory number of the whole run."""
    same = not resumed or begun(folder).get("trajectory") == TRAJECTORY
    number = TRAJECTORY if same else UNKNOWN
    note(folder, data=data, trajectory=number, environment=environment)
    return number


def note(folder: Path, **facts: Any) -> None:
    """Note `facts` of the run besides what is noted already."""
    disk.write_json(folder / BEGUN, begun(folder) | facts, make_folder=False)


def begun(folder: Path) -> dict[str, Any]:
    """What `begin` and `note` noted; empty where the run has not begun."""
    return _read(folder / BEGUN) or {}


def diverge(folder: Path, error: DivergedError) -> None:
    """Note that the run in `folder` has diverged."""
    loss = None if error.loss is None else str(error.loss)
    disk.write_json(folder / DIVERGED, {"step": error.step, "loss": loss, "message": str(error)}, make_folder=False)


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
        raise ConfigError(
            f"`{path}` cannot be read: {error}. Bring it back from a backup; a run without it counts as another one."
        ) from None
