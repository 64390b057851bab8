"""From targets to runs: every row of every table and figure asked for, once, for each seed. Imports no jax."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from approxtrain import models
from approxtrain.config import Config, steps_per_epoch
from approxtrain.data import Dataset
from approxtrain.paper import experiments
from approxtrain.paper.budget import Budget, settings
from approxtrain.paper.experiments import Experiment, PaperRow
from approxtrain.run import archive
from approxtrain.schedule import Schedule

ALL = "all"


@dataclass(frozen=True)
class PlannedRun:
    """One run of one seed."""

    row: PaperRow
    config: Config
    data: dict[str, str]
    """Name and SHA-256 of the images."""
    steps_per_epoch: int

    @property
    def identity(self) -> str:
        return archive.identity(self.config, self.data)

    @property
    def name(self) -> str:
        """What its folder and its archive are called: "cnn2-zero-cifar10-e8-s0"."""
        train = self.config.train
        return f"{self.row.name}-{self.data['name']}-e{train.epochs}-s{train.seed}"

    @property
    def schedule(self) -> Schedule:
        layers = models.get(self.config.model.name).layers
        return Schedule.from_config(self.config.schedule, layers, self.steps_per_epoch)


def chosen(targets: Sequence[str]) -> list[Experiment]:
    """The experiments of these names, each once and in the order of the paper; "all" is all. ConfigError."""
    wanted = {name: experiments.get(name) for name in targets if name != ALL}
    return [experiments.get(name) for name in experiments.names() if name in wanted or ALL in targets]


def configurations(
    rows: Sequence[PaperRow], budget: Budget, seeds: int | None = None, overrides: Sequence[str] = ()
) -> list[tuple[PaperRow, Config]]:
    """The runs of `rows`, seed by seed, so that one that is stopped early has whole tables of the first seeds.

    Rows of one network and seed have the same initial weights, and all rows of one seed the same order of the images
    and the same augmentation: these are drawn from the seed alone. Raises ConfigError before anything runs.
    """
    counts = {row.name: seeds or budget.seeds.get(row.model, 1) for row in rows}
    numbers = range(max(counts.values(), default=0))
    pairs = ((row, number) for number in numbers for row in rows if number < counts[row.name])
    return [(row, settings(row, budget, overrides, number)) for row, number in pairs]


def runs(configurations: Iterable[tuple[PaperRow, Config]], dataset: Dataset) -> list[PlannedRun]:
    """The runs on `dataset`. ConfigError where a schedule or a batch size does not fit."""
    planned = [
        PlannedRun(row, config, dataset.identity, steps_per_epoch(config, dataset)) for row, config in configurations
    ]
    for run in planned:
        _ = run.schedule  # what is wrong with it is said now, and not after hours
    return planned
