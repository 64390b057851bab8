"""The `[optimizer]` section of a configuration. Imports no jax."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from approxtrain.config.pruning import DropBackConfig, PruneTrainConfig, refuse_unless_sgd
from approxtrain.config.section import Section

SMALLEST = 1e-30  # much below it float32 has only 0, and nothing would be learnt


class OptimizerConfig(Section):
    """How the weights are moved along their gradients, by the names that optax has."""

    name: Literal["sgd", "adam", "adamw", "lion", "muon"] = "adam"
    """The optimiser."""
    learning_rate: float = Field(default=0.001, ge=SMALLEST)
    """The largest of the run."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of sgd and muon."""
    nesterov: bool = False
    """Of sgd and muon: look ahead by one step of the momentum."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Of kernels, not of norms and biases: in sgd a part of the gradient, in adamw, lion and muon beside it."""
    rate: Literal["constant", "exponential", "cosine", "linear", "onecycle", "step"] = "exponential"
    """The course of the learning rate after the warm-up."""
    warmup: float = Field(default=0.0, ge=0)
    """Epochs over which the learning rate rises to its value, in equal steps."""
    decay: float = Field(default=0.98, ge=SMALLEST, le=1)
    """Factor on the learning rate: exponential, in each epoch, a part of it at every step; step, at each milestone."""
    milestones: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(strict=False)] = (0.5, 0.75)
    """Where `step` falls, as shares of the run."""
    final: float = Field(default=0.0, ge=0, le=1)
    """What cosine and linear end at, as a share of `learning_rate`."""
    clip: float | None = Field(default=None, gt=0)
    """The largest norm of the whole gradient; a longer one is shortened to it. Unset: it is not clipped."""
    dropback: DropBackConfig | None = None
    """{ keep = 0.1, freeze = "20%" }: but for this share of the weights, those that moved farthest, all stay at their
    initial values (DropBack); which they are may be frozen after an epoch or a share of the run. Of sgd."""
    prunetrain: PruneTrainConfig | None = None
    """{ ratio = 0.2, threshold = 1e-4, every = "10%" }: a penalty on channels, a fifth of loss and penalty at the first
    step; after every tenth of the run, or so many epochs, channels of small weights alone become zero for good
    (PruneTrain). Of sgd."""

    @field_validator("dropback", "prunetrain")
    @classmethod
    def _means_something(cls, table: Any, info: ValidationInfo) -> Any:
        if table is not None:
            # a name that is none is missing here, and reported already
            refuse_unless_sgd(str(info.field_name), info.data.get("name", "sgd"))
        if table is not None and info.data.get("dropback"):
            raise ValueError(
                "it makes weights zero, and `dropback` puts them at their initial values: take one of them."
            )
        return table

    @model_validator(mode="after")
    def _has_what_it_is_given(self) -> OptimizerConfig:
        if self.weight_decay and self.name == "adam":
            raise ValueError('`weight_decay` is none of adam\'s: take name="adamw", in which it is decoupled.')
        # configurations of runs spell out every value, so that the default of momentum is no sign that it was given
        given = ["nesterov"] * self.nesterov + ["momentum"] * (
            self.momentum != type(self).model_fields["momentum"].default
        )
        if given and self.name in ("adam", "adamw", "lion"):
            raise ValueError(f"`{given[0]}` is of sgd and muon, and {self.name} does not read it: leave it out.")
        return self

    @property
    def shares(self) -> list[str]:
        """The keys that are given as shares of the run, so that a longer run would have been another one."""
        times = {
            "optimizer.dropback.freeze": self.dropback and self.dropback.freeze,
            "optimizer.prunetrain.every": self.prunetrain and self.prunetrain.every,
        }
        return [key for key, value in times.items() if isinstance(value, str)]
