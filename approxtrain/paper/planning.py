"""From targets and a budget to runs: every row of every table and figure asked for, once, for each seed.

The learning rate falls to the same share of its first value over a run of any length: the presets, which have the
paper's epochs, reach 1 % at their end, and a shorter run has the decay that reaches 1 % at its own end. A run that
stops at the high rate of the first epochs is noisier than the differences between methods. Imports no jax.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from approxtrain.config import Config, steps_per_epoch, with_train
from approxtrain.data import ImageSet
from approxtrain.errors import ConfigError
from approxtrain.paper import experiments
from approxtrain.paper.experiments import Experiment, PaperRow
from approxtrain.run import archive
from approxtrain.schedule import Schedule

END = 0.01
"""Share of the first learning rate that is left at the end of a run."""
KEYS = ("data.", "train.", "optimizer.", "schedule.dispatch", "schedule.max_columns")
"""What may be overridden for all runs; network and schedule are the rows' own."""


@dataclass(frozen=True)
class Budget:
    """How long and on what the runs train, and how many seeds."""

    name: str
    summary: str
    epochs: Mapping[str, int] = field(default_factory=dict)
    """Network → epochs; the preset's where there is none."""
    seeds: Mapping[str, int] = field(default_factory=dict)
    """Network → seeds; 1 where there is none."""
    overrides: tuple[str, ...] = ()
    drawn: bool = False
    """On images that the program draws, unless `data.name` or `data.dir` is given."""
    rounds: int = 20
    """Samples of each contender of Table 1."""


_SMOKE = "does everything work? 4 steps a run on drawn images, minutes on a CPU; its accuracies mean nothing"
_SHORT = "hours on a CPU: 2-layer CNN 8 epochs and 3 seeds, ResNets 3 epochs, VGG-19 1 epoch"
_PAPER = "the paper's 500, 250 and 200 epochs, validated every 10; days on a GPU"
_ONE: dict[str, int] = {"cnn2": 1, "resnet14": 1, "resnet20": 1, "vgg19": 1}
_EVERY = "train.validate_every=1"
BUDGETS = {
    "smoke": Budget("smoke", _SMOKE, _ONE, overrides=("data.limit=512", _EVERY), drawn=True, rounds=6),
    "short": Budget("short", _SHORT, _ONE | {"cnn2": 8, "resnet14": 3, "resnet20": 3}, {"cnn2": 3}, (_EVERY,)),
    "paper": Budget("paper", _PAPER),
}


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
        layers = self.config.model.network().layers
        return Schedule.from_config(self.config.schedule, layers, self.steps_per_epoch, self.config.train.epochs)


def chosen(targets: Sequence[str]) -> list[Experiment]:
    """The experiments of these names, each once and in the order of the paper; "all" is all. ConfigError."""
    wanted = {experiments.get(name).name for name in targets if name != "all"}
    return [experiments.get(name) for name in experiments.names() if name in wanted or "all" in targets]


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


def runs(configurations: Iterable[tuple[PaperRow, Config]], dataset: ImageSet) -> list[PlannedRun]:
    """The runs on `dataset`. ConfigError where a schedule or a batch size does not fit."""
    planned = [
        PlannedRun(row, config, dataset.identity, steps_per_epoch(config, dataset)) for row, config in configurations
    ]
    for run in planned:
        _ = run.schedule  # what is wrong with it is said now, and not after hours
    return planned


def settings(row: PaperRow, budget: Budget, overrides: Sequence[str] = (), seed_offset: int = 0) -> Config:
    """The configuration of a run of `row`. `overrides`, as in `train`, come before what the budget says. ConfigError.

    Its seed is `seed_offset` above that of the overrides.
    """
    given = [text.partition("=")[0].strip() for text in overrides]
    problems = [
        f"`{key}` is not for all runs of a reproduction: networks and schedules are those of the rows, and --seeds N "
        f"says how many runs there are of each. What may be given begins with {', '.join(KEYS)}."
        for key in given
        if not key.startswith(KEYS) or key.startswith("train.seeds")
    ]
    if problems:
        raise ConfigError(problems)
    defaults = ["train.chunk=1", *budget.overrides]  # by the rule rows would differ in it, and in their times
    if row.model in budget.epochs:
        defaults.append(f"train.epochs={budget.epochs[row.model]}")
    if budget.drawn and not {"data.name", "data.dir"}.intersection(given):
        defaults.append("data.name=shapes")
    config = row.config([*defaults, *overrides])
    config = with_train(config, seed=config.train.seed + seed_offset)
    if config.train.epochs == row.config().train.epochs or "optimizer.decay" in given:
        return config
    decay = float(f"{END ** (1 / config.train.epochs):.3g}")
    return config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"decay": decay})})
