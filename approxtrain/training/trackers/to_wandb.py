"""Weights & Biases. Its own variables say where: WANDB_PROJECT (by default approxtrain), WANDB_MODE=offline …"""

from __future__ import annotations

import os
from collections.abc import Mapping
from uuid import uuid4

import wandb  # pyright: ignore[reportMissingImports]

from approxtrain import config as configuration
from approxtrain import disk
from approxtrain.training.trackers import tracker
from approxtrain.training.workload import Workload

ID = "wandb.id"
"""The file that has the run's identity there, so that a resumed run goes on in it."""


class Tracker(tracker.Tracker):
    forgiven = (Exception,)

    def open(self, work: Workload, step: int) -> None:
        path = self.folder / ID
        if not path.exists():
            disk.write(path, uuid4().hex)
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "approxtrain"),
            dir=str(self.folder),
            id=path.read_text("utf-8"),
            name=self.folder.name,
            resume="allow",
            config=configuration.plain(work.config),
        )
        # their own counter only grows, and a resumed run takes steps again that came after its checkpoint
        self.run.define_metric("steps")
        self.run.define_metric("*", step_metric="steps")

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self.run.log({**figures, "steps": step})

    def end(self, finished: bool) -> None:
        self.run.finish(exit_code=0 if finished else 1)
