"""What a run trains, on what and how often: all that is known of it before jax starts. Imports no jax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from approxtrain import data
from approxtrain.config import Config, steps_per_epoch
from approxtrain.data import Dataset
from approxtrain.models import Model
from approxtrain.schedule import Schedule


@dataclass(frozen=True)
class Workload:
    """A configuration with the network, the images and the schedule that it names."""

    config: Config
    dataset: Dataset
    model: Model
    schedule: Schedule
    steps_per_epoch: int

    @classmethod
    def of(cls, config: Config, dataset: Dataset | None = None) -> Self:
        """Reads the images unless they are given. ConfigError and DataError name all that can be wrong."""
        dataset = dataset or data.load(config.data)
        model = config.model.network().on(dataset.image_shape, len(dataset.class_names))
        steps = steps_per_epoch(config, dataset)
        return cls(config, dataset, model, Schedule.from_config(config.schedule, model.layers, steps), steps)

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.config.train.epochs

    @property
    def data(self) -> dict[str, str]:
        """Name and SHA-256 of the images, and which of them validate."""
        return self.dataset.identity | {"validation": self.dataset.validation}
