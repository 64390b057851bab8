"""What `[optimizer]` may say of weights that do not train: `dropback`. Imports no jax."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from approxtrain.schedule.config import Epoch, Section


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
