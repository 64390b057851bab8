"""How long and on what the runs of a reproduction train. Imports no jax.

The learning rate falls to the same share of its first value over a run of any length: the presets, which have the
paper's epochs, reach 1 % at their end, and a shorter run has the decay that reaches 1 % at its own end. A run that
stops at the high rate of the first epochs is noisier than the differences between methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from approxtrain.config import Config
from approxtrain.errors import ConfigError
from approxtrain.paper.experiments import PaperRow

END = 0.01
"""Share of the first learning rate that is left at the end of a run."""
KEYS = ("data.", "train.", "optimizer.", "schedule.dispatch", "schedule.max_columns")
"""What may be overridden for all runs; network and schedule are the rows' own."""


@dataclass(frozen=True)
class Budget:
    """One size of reproduction."""

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


def settings(row: PaperRow, budget: Budget, overrides: Sequence[str] = (), seed_offset: int = 0) -> Config:
    """The configuration of a run of `row`. `overrides`, as in `train`, come before what the budget says. ConfigError.

    Its seed is `seed_offset` above that of the overrides.
    """
    given = [text.partition("=")[0].strip() for text in overrides]
    _refuse(given)
    defaults = ["train.chunk=1", *budget.overrides]  # by the rule rows would differ in it, and in their times
    if row.model in budget.epochs:
        defaults.append(f"train.epochs={budget.epochs[row.model]}")
    if budget.drawn and not {"data.name", "data.dir"}.intersection(given):
        defaults.append("data.name=shapes")
    config = row.config([*defaults, *overrides])
    train = config.train.model_copy(update={"seed": config.train.seed + seed_offset})
    optimizer = config.optimizer
    if train.epochs != row.config().train.epochs and "optimizer.decay" not in given:
        optimizer = optimizer.model_copy(update={"decay": float(f"{END ** (1 / train.epochs):.3g}")})
    return config.model_copy(update={"train": train, "optimizer": optimizer})


def _refuse(given: Sequence[str]) -> None:
    problems = [
        f"`{key}` is not for all runs of a reproduction: networks and schedules are those of the rows. What may be "
        f"given begins with {', '.join(KEYS)}."
        for key in given
        if not key.startswith(KEYS)
    ]
    if "train.seeds" in given or "train.seeds_by" in given:
        problems.append("`train.seeds`: a reproduction trains one seed a run; --seeds N says how many runs.")
    if problems:
        raise ConfigError(problems)
