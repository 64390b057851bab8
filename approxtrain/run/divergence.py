"""`diverged.json` in the folder of a run that has diverged: step, loss and message; gone once it got past that step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from approxtrain import disk
from approxtrain.errors import ConfigError, DivergedError

DIVERGED = "diverged.json"


def note(folder: Path, error: DivergedError) -> None:
    """Note that the run in `folder` has diverged."""
    loss = None if error.loss is None else str(error.loss)
    disk.write_json(folder / DIVERGED, {"step": error.step, "loss": loss, "message": str(error)}, make_folder=False)


def noted(folder: Path) -> dict[str, Any] | None:
    """Where and how the run diverged; None where it did not."""
    path = folder / DIVERGED
    try:
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found, dict) or type(found.get("step")) is not int or "loss" not in found:
            raise ValueError("it names no step and no loss")
        return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"`{path}` cannot be read: {error}. Remove it, and go on with the run.") from None


def forget(folder: Path, step: int) -> None:
    """A checkpoint after `step` steps is in place: what diverged at an earlier one did not do so this time."""
    if (found := noted(folder)) and found["step"] <= step:
        with disk.explained(folder / DIVERGED):
            (folder / DIVERGED).unlink(missing_ok=True)
