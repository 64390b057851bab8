"""One run of a reproduction, in this process: begun or gone on with, to its end, and archived."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import jax

from approxtrain import config, disk
from approxtrain.data import Dataset
from approxtrain.errors import DivergedError
from approxtrain.paper import stored
from approxtrain.paper.planning import PlannedRun
from approxtrain.run import archive
from approxtrain.run.archive import Archive
from approxtrain.run.folder import RunFolder
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run


def execute(planned: PlannedRun, root: Path, dataset: Dataset, listener: Listener) -> Archive:
    """Train what is left of a run and archive it in `root`, diverged or finished. → the archive.

    A run that has ended, perhaps by another process just now, is not trained again; without an archive it gets one from
    its folder. `listener` is told of the training. Raises LockedError where another process is at it,
    ConfigError where its name is taken, InterruptedRun, CheckpointError, DiskError; what was saved before stays.
    """
    path, folder = stored.archive_path(root, planned), stored.run_folder(root, planned)
    with disk.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with RunFolder(folder) as locked:  # from here on nobody else is at it
        found = stored.find(root, planned)
        if found is None or found.status == "unfinished":
            _train(planned, locked, dataset, listener, going_on=found is not None)
            found = stored.find(root, planned)
        assert found
        if not path.exists():
            found = replace(found, name=planned.name)
            archive.write(path, found)
    return found


def _train(planned: PlannedRun, folder: RunFolder, dataset: Dataset, listener: Listener, going_on: bool) -> None:
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
