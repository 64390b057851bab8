"""TensorBoard: events in `tensorboard/` of the run's folder. A resumed run hides what came after its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from tensorboardX import SummaryWriter

from approxtrain import disk
from approxtrain.training.trackers import tracker
from approxtrain.training.workload import Workload

FOLDER = "tensorboard"


class Tracker(tracker.Tracker):
    def open(self, work: Workload, step: int) -> None:
        purge = step + 1 if step else None
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
