"""The runs of a reproduction in its folder: what there is of one, and one trained to its end and archived.

    DIR/NAME.json     its archive, once it has ended: all that has to be kept
    DIR/runs/NAME/    the run itself: checkpoints, rows, curves

Nothing is ever written over: where a name is taken by another run, that is an error. Imports jax when it trains.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from approxtrain import config, disk
from approxtrain.data import ImageSet
from approxtrain.errors import ConfigError, DivergedError
from approxtrain.paper.planning import PlannedRun
from approxtrain.run import archive
from approxtrain.run.archive import Archive
from approxtrain.run.folder import CONFIG, RunFolder
from approxtrain.training.events import Listener


def archive_path(root: Path, planned: PlannedRun) -> Path:
    return root / f"{planned.name}.json"


def run_folder(root: Path, planned: PlannedRun) -> Path:
    return root / "runs" / planned.name


def find(root: Path, planned: PlannedRun) -> Archive | None:
    """What there is of the run: its archive, or else what its folder holds by now; None where it has not begun.

    ConfigError where that is another run, or a file is damaged.
    """
    path = archive_path(root, planned)
    if path.exists():
        found = archive.read(path)
    else:
        path = run_folder(root, planned)
        found = archive.of_folder(path)[0] if (path / CONFIG).is_file() else None
    if found is None or not (found.identity or found.epochs):  # at most made, and not begun
        return None
    if found.identity in (planned.identity, ""):  # without one no checkpoint can be read, and training says so
        return found
    difference = "of another configuration" if found.data.get("sha256") == planned.data["sha256"] else "on other images"
    if found.trajectory != archive.TRAJECTORY:
        difference = "of a program that computes other trajectories"
    raise ConfigError(f"`{path}` is another run, {difference}: choose another --out.")


def execute(planned: PlannedRun, root: Path, dataset: ImageSet, listener: Listener) -> Archive:
    """Train what is left of a run and archive it in `root`, diverged or finished. → the archive.

    A run that has ended, perhaps by another process just now, is not trained again; without an archive it gets one from
    its folder. `listener` is told of the training. Raises LockedError where another process is at it, ConfigError where
    its name is taken, InterruptedRun, CheckpointError, DiskError; what was saved before stays.
    """
    path, folder = archive_path(root, planned), run_folder(root, planned)
    with disk.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with RunFolder(folder) as locked:  # from here on nobody else is at it
        found = find(root, planned)
        if found is None or found.status == "unfinished":
            _train(planned, locked, dataset, listener, going_on=found is not None)
            found = find(root, planned)
        assert found
        if not path.exists():
            found = replace(found, name=planned.name)
            archive.write(path, found)
    return found


def _train(planned: PlannedRun, folder: RunFolder, dataset: ImageSet, listener: Listener, going_on: bool) -> None:
    import gc

    import jax

    from approxtrain.training.loop import Run

    settings = planned.config
    if going_on:  # as it began, but the images may have moved
        begun = config.load(str(folder.config.absolute()))
        settings = begun.model_copy(update={"data": begun.data.model_copy(update={"dir": settings.data.dir})})
    try:
        Run(settings, folder, listener, dataset).train()
    except DivergedError:
        pass  # its folder says so, and then its archive
    finally:
        gc.collect()
        jax.clear_caches()  # the programs of one run are of no use to the next, and take memory
