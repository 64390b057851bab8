"""What a run trains, on what and how often: all that is known of it before jax starts. Imports no jax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from approxtrain import data
from approxtrain.config import Config, steps_per_epoch
from approxtrain.data import Dataset, ImageSet
from approxtrain.errors import ConfigError
from approxtrain.models import Model
from approxtrain.schedule import Schedule


@dataclass(frozen=True)
class Workload:
    """A configuration with the network, the images and the schedule that it names."""

    config: Config
    dataset: ImageSet
    model: Model
    schedule: Schedule
    steps_per_epoch: int

    @classmethod
    def of(cls, config: Config, dataset: Dataset | None = None) -> Self:
        """Looks for the images unless they are given. ConfigError and DataError name all that can be wrong."""
        images = data.load(config.data, dataset)
        if images.streamed and config.train.seeds > 1:
            raise ConfigError(
                f"`train.seeds` (={config.train.seeds}) are trained at once on images in memory, and those of "
                f"`{images.name}` are streamed, in the order of one seed: run the seeds one by one, or say "
                "data.stream=false where the memory holds them all."
            )
        model = config.model.network().on(images.image_shape, len(images.class_names))
        model.check(config.train.precision)
        steps = steps_per_epoch(config, images)
        return cls(config, images, model, Schedule.from_config(config.schedule, model.layers, steps), steps)

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.config.train.epochs

    @property
    def data(self) -> dict[str, str]:
        """Name and SHA-256 of the images, and which of them validate."""
        return self.dataset.identity | {"validation": self.dataset.validated_on}
