"""The `[schedule]` section of a configuration: what its TOML may say, checked as far as that needs no model.

What needs the model (a layer number out of range, a rule that matches nothing, two rules that disagree) is
checked by `Schedule.from_config`. The grammar is explained by example in docs/schedules.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)

from approxtrain.errors import suggestion
from approxtrain.schedule.named_schedules import named
from approxtrain.schedule.ranges import (
    Count,
    Epoch,
    EpochRange,
    LayerNumbers,
    LayerRange,
    ReplicaRange,
    ScheduleTable,
    StepRange,
)
from approxtrain_kernels import methods
from approxtrain_kernels.method import Method

EXACT = "for the exact baseline replace the whole table: 'schedule={ name = \"full\" }'"
"""What works in place of rules or a grid, as a command line is given it."""


def make(name: str, params: dict[str, Any]) -> Method:
    """The method that a user's table describes. A parameter of the wrong type is a ValueError like every mistake."""
    try:
        method = methods.make(name, **params)
    except TypeError as error:
        raise ValueError(f"method {name!r} cannot use the parameters {params}: {error}.") from error
    if others := params.keys() - method.params.keys():
        raise ValueError(f"`{min(others)}` says how {name!r} is computed, and not what: it is no parameter here.")
    return method


def _choices(name: str, known: Iterable[str]) -> str:
    known = list(dict.fromkeys(known))
    return f"{', '.join(known)}.{suggestion(name, known)}"


def _known_method(name: str) -> str:
    if name not in (known := methods.all_methods()):
        raise ValueError(f"no method is called {name!r}; there are {_choices(name, known)}")
    return name


def _fitting(params: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    """The parameters, if the method of the same table (when that is valid itself) can be made with them."""
    if info.data.get("method"):
        make(info.data["method"], params)
    return params


def _end(epoch: int | str) -> str:
    return f"{epoch} of the run" if isinstance(epoch, str) else f"epoch {epoch}"


Row = tuple[str, ...]
MethodName = Annotated[str, AfterValidator(_known_method)]
Params = Annotated[dict[str, Any], AfterValidator(_fitting)]


class MethodTable(ScheduleTable):
    """A method with its parameters."""

    method: MethodName
    """One of `approxtrain ls methods`."""
    params: Params = Field(default={})
    """The method's parameters: { k = 4 }."""

    def build(self) -> Method:
        return make(self.method, self.params)


class Rule(MethodTable):
    """Puts one method into the cells that all of its conditions select; one left out selects everything."""

    layers: LayerRange | LayerNumbers | None = None
    """{ start, stop, every }, stop inclusive, or a list of numbers; layers count from 1."""
    stride: Count | None = None
    """Layers with this stride."""
    path: str | None = None
    """Layers whose path fits: "stage2/*"."""
    steps: StepRange | None = None
    """{ start, stop, every } of global steps from 0, stop exclusive."""
    epochs: EpochRange | None = None
    """{ from, to } of epochs from 1, both inclusive, or shares of the run: { from = "3%", to = "80%" }."""
    replicas: ReplicaRange | None = None
    """{ start, stop, every, rotate } of the devices that share each batch (`parallel.devices`), stop exclusive."""
    order: Annotated[int, Field(strict=True)] = 0
    """Where rules meet, the higher order wins."""

    @field_validator("layers", mode="before")
    @classmethod
    def _list_or_range(cls, value: Any) -> Any:
        # Decided here, and not by pydantic's union, so that an error names the one form that was meant.
        if isinstance(value, dict):
            return LayerRange.model_validate(value)
        if isinstance(value, list | tuple) and value:
            return TypeAdapter(LayerNumbers).validate_python(value)
        if value is None or isinstance(value, LayerRange):
            return value
        raise ValueError(f"`layers` (={value!r}) must be {{ start, stop, every }} or a list of numbers such as [2, 6].")


class LocalSteps(ScheduleTable):
    """Local SGD in a part of the run."""

    every: Count
    """Each device updates a copy of its own; after so many steps of an epoch, and at its end, all take their mean."""
    epochs: EpochRange | None = None
    """{ from, to } of epochs from 1, both inclusive, or shares of the run: { from = "5%" }."""


class ImageSize(ScheduleTable):
    """The size of the images in a part of the run."""

    size: Annotated[int, Field(strict=True, ge=1, le=4096)]
    """Rows and columns that each image is brought to, after it was cut and flipped."""
    epochs: EpochRange | None = None
    """{ from, to } of epochs from 1, both inclusive, or shares of the run: { to = "40%" }."""


class ImageShare(ScheduleTable):
    """How many of each batch's images are taken in a part of the run."""

    share: Annotated[float, Field(strict=True, gt=0, lt=1)]
    """Of the batch, spread evenly over it: 0.5 is every second image. The others are not seen in this epoch."""
    epochs: EpochRange | None = None
    """{ from, to } of epochs from 1, both inclusive, or shares of the run: { to = "50%" }."""


class Bypass(ScheduleTable):
    """Residual blocks that are left out in the first part of the run."""

    path: str
    """Blocks whose path fits: "stage?/2" is the third of each stage. Each must begin as its own shortcut."""
    to: Epoch
    """The last epoch, or the share of the run ("50%"), in which they are left out."""


class ScheduleConfig(ScheduleTable):
    """One of three forms (`name`, `rules` or `grid`); `name = "full"` where none is given."""

    name: str | None = None
    """One of `approxtrain ls schedules`; "full" where neither rules nor a grid are given."""
    method: MethodName | None = None
    """The method of a named schedule that takes one; unset: approx."""
    params: Params = Field(default={})
    """The parameters of `method`: { k = 4 }."""
    until_epoch: Epoch | None = None
    """After this epoch, or this share of the run ("80%"), every layer is exact."""
    until_plateau: Count | None = None
    """After so many validations in a row without a better accuracy, every layer is exact."""
    rules: tuple[Rule, ...] | None = None
    """Each puts one method into the layers and steps that all of its conditions select."""
    cells: dict[str, MethodTable] = Field(default={})
    """Names for the entries of `grid`: { sharp = { method = "approx", params = { k = 4 } } }."""
    grid: tuple[Row, ...] | None = None
    """A row for each layer, and in it a method's or a cell's name for each step of the period."""
    image_sizes: tuple[ImageSize, ...] = ()
    """Parts of the run with images of another size than the data's, which cost less where they are smaller."""
    image_shares: tuple[ImageShare, ...] = ()
    """Parts of the run in which a share of each batch is taken: as many steps, of fewer images."""
    bypass: tuple[Bypass, ...] = ()
    """Residual blocks that are left out at first, and come in later: a network that becomes deeper."""
    local: tuple[LocalSteps, ...] = ()
    """Parts of the run in which devices that share each batch (`parallel.devices`) update copies of their own."""
    frozen_prefix: Annotated[bool, Field(strict=True)] = False
    """Norms and biases of the lowest layers that get no gradient get none either, which saves the dgrads there."""
    catch_up: Annotated[bool, Field(strict=True)] = False
    """A weight that is skipped at some steps of a period is moved further at its next update: by as many times as steps
    have passed since the last one."""
    dispatch: Literal["auto", "switch", "host"] = "auto"
    """One program with a conditional, or a program a column; auto: switch on a CPU, host on a GPU."""
    max_columns: Count = 32
    """Distinct columns that are compiled without asking; each takes seconds, so that 32 may take minutes."""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = {key: value for key, value in data.items() if value is not None}
        if not data.keys() & {"name", "rules", "grid"}:
            data["name"] = "full"
        entry = named().get(data["name"]) if isinstance(data.get("name"), str) else None
        return {"method": "approx", **data} if entry and entry.takes_method else data

    @field_validator("name")
    @classmethod
    def _known_name(cls, name: str | None) -> str | None:
        if name is not None and name not in named():
            raise ValueError(f"no schedule is called {name!r}; there are {_choices(name, named())}")
        return name

    @field_validator("grid")
    @classmethod
    def _rectangular(cls, grid: tuple[Row, ...] | None, info: ValidationInfo) -> tuple[Row, ...] | None:
        if grid is None or "cells" not in info.data:
            return grid
        if not grid or not grid[0]:
            raise ValueError("it needs a row for each layer and in each row a method for each step of the period.")
        problems = [
            f"row {number} has {len(row)} columns and row 1 has {len(grid[0])}."
            for number, row in enumerate(grid, start=1)
            if len(row) != len(grid[0])
        ]
        known = (*info.data["cells"], *methods.all_methods())
        unknown = dict.fromkeys(entry for row in grid for entry in row if entry not in known)
        problems += [f"{entry!r} is no method and none of `cells`: {_choices(entry, known)}" for entry in unknown]
        if problems:
            raise ValueError(" ".join(problems))
        return grid

    @model_validator(mode="after")
    def _one_form(self) -> ScheduleConfig:
        forms = [form for form in ("name", "rules", "grid") if getattr(self, form) is not None]
        if len(forms) > 1:
            raise ValueError(
                f"`{'` and `'.join(forms)}` exclude each other: give one of `name`, `rules` and `grid`, or {EXACT}."
            )
        if self.rules == ():
            raise ValueError(f"`rules` is empty: leave it out (then all is exact), write a rule, or {EXACT}.")
        if self.cells and self.grid is None:
            raise ValueError("`cells` names the entries of a `grid`, and there is no `grid`.")
        if (self.method or self.params) and not (self.name and named()[self.name].takes_method):
            what = f"schedule {self.name!r} takes no" if self.name else f"`{forms[0]}` state their own"
            raise ValueError(
                f"{what} `method` and `params`: leave them out, or {EXACT}. (The exact baseline of a named schedule "
                "is schedule.method=full.)"
            )
        return self

    @property
    def knows_its_end(self) -> bool:
        """Whether a part of it is a share of the run, so that a longer run would have been another one."""
        parts = (*(self.rules or ()), *self.image_sizes, *self.image_shares, *self.local)
        ranges = [each.epochs for each in parts if each.epochs]
        bounds = [
            self.until_epoch,
            *(each.to for each in self.bypass),
            *(bound for each in ranges for bound in (each.from_, each.to)),
        ]
        return any(isinstance(bound, str) for bound in bounds)

    def cell(self) -> Method:
        """The method of a named schedule that takes one, with its parameters."""
        return make(self.method or "full", self.params)

    @property
    def title(self) -> str:
        """What the configuration calls it: "schedule1 with approx(k=4) until epoch 5"."""
        what = self.name or ("rules" if self.rules else "grid")
        if self.name and self.method:
            what += f" with {self.cell().label}"
        end = self.until_epoch
        what += f" until {_end(end)}" if end else ""
        what += f" until a plateau of {self.until_plateau} validations" if self.until_plateau else ""
        if self.image_sizes:
            what += f", images of {' and '.join(dict.fromkeys(str(each.size) for each in self.image_sizes))} pixels"
        if self.image_shares:
            what += f", {' and '.join(dict.fromkeys(f'{each.share:.3g}' for each in self.image_shares))} of each batch"
        if self.bypass:
            what += f", without {' and '.join(f'{each.path} to {_end(each.to)}' for each in self.bypass)}"
        if self.local:
            what += f", local for {' and '.join(str(each.every) for each in self.local)} steps"
        what += ", frozen prefix" if self.frozen_prefix else ""
        return what + (", catching up" if self.catch_up else "")
