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
from approxtrain.paper.experiments import Row

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


BUDGETS = {
    budget.name: budget
    for budget in (
        Budget(
            "smoke",
            "does everything work? 4 steps a run on drawn images, minutes on a CPU; its accuracies mean nothing",
            epochs={"cnn2": 1, "resnet14": 1, "resnet20": 1, "vgg19": 1},
            overrides=("data.limit=512", "train.validate_every=1"),
            drawn=True,
            rounds=6,
        ),
        Budget(
            "short",
            "hours on a CPU: 2-layer CNN 8 epochs and 3 seeds, ResNets 3 epochs, VGG-19 1 epoch",
            epochs={"cnn2": 8, "resnet14": 3, "resnet20": 3, "vgg19": 1},
            seeds={"cnn2": 3},
            overrides=("train.validate_every=1",),
        ),
        Budget("paper", "the paper's 500, 250 and 200 epochs, validated every 10; days on a GPU"),
    )
}


def settings(row: Row, budget: Budget, overrides: Sequence[str] = (), seed: int | None = None) -> Config:
    """The configuration of a run of `row`. `overrides`, as in `train`, come before what the budget says. ConfigError.

    `seed` None leaves it to the overrides.
    """
    given = [text.partition("=")[0].strip() for text in overrides]
    _refuse(given)
    defaults = ["train.chunk=1", *budget.overrides]  # where it is measured, rows would differ in it, and in their times
    if row.model in budget.epochs:
        defaults.append(f"train.epochs={budget.epochs[row.model]}")
    if budget.drawn and not {"data.name", "data.dir"}.intersection(given):
        defaults.append("data.name=shapes")
    last = [*overrides, *([] if seed is None else [f"train.seed={seed}"])]
    config = row.config([*defaults, *last])
    if config.train.epochs != row.config().train.epochs and "optimizer.decay" not in given:
        decay = float(f"{END ** (1 / config.train.epochs):.3g}")
        config = row.config([*defaults, f"optimizer.decay={decay}", *last])
    return config


def first_seed(row: Row, budget: Budget, overrides: Sequence[str]) -> int:
    """The first of the seeds: `train.seed` where it is given."""
    return settings(row, budget, overrides).train.seed


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
