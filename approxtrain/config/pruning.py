"""What `[optimizer]` may say of weights that do not train: `dropback` and `prunetrain`. Imports no jax."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from approxtrain.config.section import Section
from approxtrain.schedule.ranges import Epoch


def _not_at_once(value: int | str) -> int | str:
    if isinstance(value, str) and not float(value[:-1]):
        raise ValueError(
            f'(={value!r}) must be later than the start of the run: an epoch from 1, or a share like "5%".'
        )
    return value


Later = Annotated[Epoch, AfterValidator(_not_at_once)]
"""The end of an epoch, or of a share of the run."""


class DropBackConfig(Section):
    """Which weights may leave their initial values (training/dropback.py)."""

    keep: float = Field(gt=0, le=1, strict=True)
    """Share of the network's weights."""
    freeze: Later | None = None
    """The end of the epoch, or share of the run, after which they are always the same ones."""


class PruneTrainConfig(Section):
    """Which channels are pushed to zero, and when they stay there (training/prunetrain.py)."""

    ratio: float = Field(default=0.2, gt=0, lt=1, strict=True)
    """Share of the penalty in its sum with the loss, at the first step."""
    threshold: float = Field(default=1e-4, gt=0, strict=True)
    """A channel is pruned whose weights are all smaller than that."""
    every: Later = "10%"
    """Epochs, or share of the run, after which channels are pruned each time."""


WHY_SGD = {
    "dropback": "it keeps the weights that their gradients moved farthest, and {name} moves all of them about equally "
    "far at first, whatever their gradients",
    "prunetrain": "its penalty is as strong as its gradient is long, and {name} takes of a gradient little but the "
    "direction",
}


def refuse_unless_sgd(key: str, optimizer: str) -> None:
    """ValueError where the option of [optimizer] would mean nothing under the optimiser of that name."""
    if optimizer != "sgd":
        raise ValueError(f'{WHY_SGD[key].format(name=optimizer)}: take name="sgd".')


def refuse_average(key: str, average: float | None) -> None:
    """ValueError where the option of [optimizer] is lost on what is validated and exported."""
    if average:
        raise ValueError(
            f"`{key}` says which weights stay at a value, and their average over all steps "
            f"(`train.average`={average:g}), which is validated and exported, does not: leave one of them out."
        )
