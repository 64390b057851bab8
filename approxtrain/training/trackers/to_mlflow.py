"""MLflow. Its own variables say where: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME (by default approxtrain)."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]
from mlflow.entities import Metric, Param  # pyright: ignore[reportMissingImports]

from approxtrain import config as configuration
from approxtrain import disk
from approxtrain.training.trackers import tracker
from approxtrain.training.workload import Workload

ID = "mlflow.id"
"""The file that has the run's identity there, so that a resumed run goes on in it."""


class Tracker(tracker.Tracker):
    forgiven = (Exception,)

    def open(self, work: Workload, step: int) -> None:
        self.client, path = MlflowClient(), self.folder / ID
        if not path.exists():
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "approxtrain")
            known = self.client.get_experiment_by_name(name)
            experiment = known.experiment_id if known else self.client.create_experiment(name)
            run = self.client.create_run(experiment, run_name=self.folder.name)
            disk.write(path, run.info.run_id)
        self.run_id = path.read_text("utf-8")
        self.client.update_run(self.run_id, status="RUNNING")
        if step == 0:
            params = [Param(key, str(value)) for key, value in configuration.flat(configuration.plain(work.config))]
            self.client.log_batch(self.run_id, params=params)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        now = round(1e3 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in figures.items()]
        self.client.log_batch(self.run_id, metrics, synchronous=False)  # a slow server holds up no step

    def end(self, finished: bool) -> None:
        self.client.set_terminated(self.run_id, "FINISHED" if finished else "FAILED")
