"""One run of a reproduction, in this process: begun or gone on with, to its end, and archived."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import jax

from approxtrain.data import Dataset
from approxtrain.errors import DivergedError
from approxtrain.paper.runs import Planned
from approxtrain.paper.store import Found, Store
from approxtrain.run.archive import Archive
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run


def execute(planned: Planned, store: Store, dataset: Dataset, listener: Callable[[Path], Listener]) -> Archive:
    """Train what is left of a run and archive it, diverged or finished. → the archive.

    A run that has ended, perhaps by another process just now, is not trained again; without an archive it gets one from
    its folder. `listener(folder)` is told of the training. Raises LockedError where another process is at it,
    InterruptedRun, CheckpointError, DiskError; what was saved before stays.
    """
    claimed = store.claim(planned)
    if isinstance(claimed, Found):
        return claimed.archive if claimed.folder is None else store.keep(planned, claimed.folder)
    folder, config = claimed
    with folder:
        try:
            Run(config, folder, listener(folder.path), dataset).train()
        except DivergedError:
            pass  # its folder says so, and then its archive
        finally:
            gc.collect()
            jax.clear_caches()  # the programs of one run are of no use to the next, and take memory
        return store.keep(planned, folder.path)
