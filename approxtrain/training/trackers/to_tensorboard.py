"""TensorBoard: events in `tensorboard/` of the run's folder. A resumed run hides what came after its checkpoint.

Written by the thread that trains, a record at a time: tensorboardX's `SummaryWriter` has a thread and a queue between,
and a disk that is full would end that thread, and hold up the run where the queue is full.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

from approxtrain import disk
from approxtrain.training.trackers import tracker
from approxtrain.training.workload import Workload

FOLDER = "tensorboard"
SECONDS = 10.0
"""What is written is on the disk after so long, and at the end."""
_VERSION = "brain.Event:2"


class Tracker(tracker.Tracker):
    def open(self, work: Workload, step: int) -> None:
        path = self.folder / FOLDER
        # the step, because two of one second would have one name
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{step:08d}"
        with disk.explained(path):
            path.mkdir(exist_ok=True)
            self._writer = RecordWriter(str(path / name))
            self._flushed = time.monotonic()
            self._write(file_version=_VERSION)
            if step:
                self._write(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def log(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self._write(step=step, summary=scalar(name, value))
        if time.monotonic() - self._flushed > SECONDS:
            self._writer.flush()
            self._flushed = time.monotonic()

    def end(self, finished: bool) -> None:
        try:
            self._writer.close()
        except OSError as error:
            self.give_up(error)

    def give_up(self, error: Exception) -> None:
        with contextlib.suppress(OSError):
            self._writer.close()  # else what is left is tried again when the process ends
        super().give_up(error)

    def _write(self, **event: Any) -> None:
        self._writer.write(Event(wall_time=time.time(), **event).SerializeToString())
