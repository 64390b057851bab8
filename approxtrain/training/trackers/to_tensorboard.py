"""TensorBoard: events in `tensorboard/` of the run's folder. A resumed run hides what came after its checkpoint."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping

from tensorboardX import SummaryWriter

from approxtrain import disk
from approxtrain.errors import DiskError
from approxtrain.training.trackers import tracker
from approxtrain.training.workload import Workload

FOLDER = "tensorboard"


class Tracker(tracker.Tracker):
    def open(self, work: Workload, step: int) -> None:
        purge = step + 1 if step else None
        _refuse_without_locks()
        with disk.explained(self.folder / FOLDER):
            self.writer = SummaryWriter(
                str(self.folder / FOLDER),
                purge_step=purge,
                filename_suffix=f".{step:08d}",  # else two of one second clash
            )

    def log(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)

    def end(self, finished: bool) -> None:
        self.writer.close()


def _refuse_without_locks() -> None:
    """Raise DiskError where processes cannot share a lock. The writer takes one, whatever its folder."""
    try:
        multiprocessing.Lock()
    except OSError as error:
        raise DiskError(
            f"`/dev/shm` cannot be written: {error.strerror}. The locks that processes share are there, and "
            "TensorBoard's writer needs one: make it writable, or leave TensorBoard out: train.trackers=[]"
        ) from error
