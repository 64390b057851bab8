"""The parts of a configuration that say which layers, steps, epochs and replicas something is for."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

LARGEST = 2**31 - 1
"""Of whole numbers: a compiled program counts its steps in 32 bits."""
Count = Annotated[int, Field(strict=True, ge=1, le=LARGEST)]


def _number_or_share(value: Any) -> Any:
    """Decided here, and not by pydantic's union, so that an error names the one form that was meant."""
    if not isinstance(value, str):
        return TypeAdapter(Count).validate_python(value)
    if not (re.fullmatch(r"\d+(\.\d+)?%", value) and float(value[:-1]) <= 100):
        raise ValueError(f'(={value!r}) must be a whole number, or a share of the run such as "3%", of at most "100%".')
    return value


Epoch = Annotated[int | str, BeforeValidator(_number_or_share)]
"""The number of an epoch, or a share of the run."""
Step = Annotated[int, Field(strict=True, ge=0, le=LARGEST)]
LayerNumbers = tuple[Count, ...]


class ScheduleTable(BaseModel):
    """A table of `[schedule]`: a key that it does not know is an error, and a list may stand for a tuple."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class LayerRange(ScheduleTable):
    """Layers start, start + every, … up to and including stop; the last layer where stop is left out."""

    start: Count = 1
    stop: Count | None = None
    every: Count = 1


class StepRange(ScheduleTable):
    """Global steps start, start + every, … below stop; without end where stop is left out."""

    start: Step = 0
    stop: Count | None = None
    every: Count = 1


class EpochRange(ScheduleTable):
    """Epochs `from` to `to`, both inclusive and counted from 1; without end where `to` is left out. As shares of the
    run, "3%" to "80%", the steps from 3 % of all on, below 80 %."""

    from_: Epoch = Field(1, alias="from")
    to: Epoch | None = None


class ReplicaRange(ScheduleTable):
    """Replicas start, start + every, … below stop, numbered from 0; with each step that the rule is for, `rotate`
    further round."""

    start: Step = 0
    stop: Count | None = None
    every: Count = 1
    rotate: Step = 0
