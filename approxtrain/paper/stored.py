"""What the folder of a reproduction holds of a run. Imports no jax.

    DIR/NAME.json     its archive, once it has ended: all that has to be kept
    DIR/runs/NAME/    the run itself: checkpoints, rows, curves

Nothing is ever written over: where a name is taken by another run, that is an error.
"""

from __future__ import annotations

from pathlib import Path

from approxtrain.errors import ConfigError
from approxtrain.paper.planning import PlannedRun
from approxtrain.run import archive, marks
from approxtrain.run.archive import Archive
from approxtrain.run.folder import CONFIG


def archive_path(root: Path, planned: PlannedRun) -> Path:
    return root / f"{planned.name}.json"


def run_folder(root: Path, planned: PlannedRun) -> Path:
    return root / "runs" / planned.name


def find(root: Path, planned: PlannedRun) -> Archive | None:
    """What there is of the run: its archive, or else what its folder holds by now; None where it has not begun.

    ConfigError where that is another run, or a file is damaged.
    """
    path, folder = archive_path(root, planned), run_folder(root, planned)
    if path.exists():
        found = archive.read(path)
    elif (folder / CONFIG).is_file():
        path, found = folder, archive.of_folder(folder)[0]
        if not found.identity and not found.epochs:  # it was made, and not a step was taken
            return None
    else:
        return None
    if found.identity != planned.identity:
        raise ConfigError(f"`{path}` is another run, {_difference(found, planned)}: choose another --out.")
    return found


def _difference(found: Archive, planned: PlannedRun) -> str:
    if found.trajectory != marks.TRAJECTORY:
        return "of a program that computes other trajectories"
    return "of another configuration" if found.data["sha256"] == planned.data["sha256"] else "on other images"
