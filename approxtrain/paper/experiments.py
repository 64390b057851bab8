"""The paper's Tables 1–5 and Figures 5–8 as data: which runs they need, and what the paper prints.

    get("table3").rows          the runs of Table 3, each a `PaperRow`
    get("table3").rows[0].config(["train.epochs=3"])

A row is a network under a schedule. How long it trains, on which images and from which seed are no part of it: one run
serves every table and figure that has its row. Beside the paper's rows each table has two of ours: `approx` without the
paper's factor of 1/128, and `pooled(2)` in every layer but the first. Imports no jax.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from approxtrain import models
from approxtrain.config import Config, load, plain
from approxtrain.errors import ConfigError
from approxtrain.schedule import Schedule, ScheduleConfig


@dataclass(frozen=True)
class Paper:
    """What the paper prints for a row: one run, best validation accuracy, None where it prints nothing."""

    accuracy_loss: float | None = None
    """Percentage points below full; negative where the row is better."""
    speed_up: float | None = None
    """Percent, 1 − T/T_full; negative where the row is slower."""
    speed_up_printed: str = ""
    """Where the paper prints no number of percent: "1x", "Over -100%"."""
    accuracy: float | None = None
    """Percent."""

    def difference(self, full: Paper) -> float | None:
        """Points above the paper's `full`; negative where the paper lost accuracy."""
        if self.accuracy_loss is not None:
            return -self.accuracy_loss + 0.0
        return None if self.accuracy is None or full.accuracy is None else self.accuracy - full.accuracy


@dataclass(frozen=True)
class PaperRow:
    """A network under a schedule: `approxtrain train PRESET OVERRIDES…`."""

    name: str
    """The name of the run: unique, and a file name."""
    label: str
    """What the paper's tables call its method."""
    model: str
    preset: str
    overrides: tuple[str, ...] = ()
    group: str = ""
    """"schedule 2" where an experiment has rows of several schedules; empty for what belongs to all of them."""
    paper: Paper = field(default_factory=Paper)
    """What the row is held against. The paper has one approx: both of ours are held against it."""
    ours: bool = False
    """The paper does not have this row."""
    note: str = ""

    def config(self, overrides: Sequence[str] = ()) -> Config:
        """The configuration of a run of this row; `overrides` as in `train`. ConfigError."""
        return load(self.preset, [*self.overrides, *overrides])

    @cached_property
    def method(self) -> str:
        """The method of its configuration."""
        return method_of(plain(self.config()))

    @cached_property
    def cells(self) -> Schedule:
        """The method of each layer at each step."""
        return _cells(self.config().schedule, self.model)

    @property
    def short(self) -> str:
        """What a line is called: "zero", "approx., scale 1"."""
        method, gradient, rest = self.label.partition(" Gradient")
        return method.lower() + rest if gradient else self.label


class KernelRow(NamedTuple):
    """A row of Table 1. Times as printed: the paper says microseconds, and they are possible only as milliseconds."""

    in_channels: int
    out_channels: int
    size: int
    cudnn: float
    kernel: float
    transpose: float
    total: float
    speed_up: float


@dataclass(frozen=True)
class Experiment:
    """A table or a figure."""

    name: str
    title: str
    kind: Literal["kernel", "table", "figure"]
    model: str = ""
    rows: tuple[PaperRow, ...] = ()

    @property
    def short(self) -> str:
        """ "Table 3" """
        return self.title.partition(".")[0]

    @property
    def baseline(self) -> PaperRow:
        """The exact run that the others are held against."""
        return next(row for row in self.rows if row.name == f"{self.model}-full")

    @property
    def notes(self) -> dict[str, str]:
        """Label → note, of the rows that have one."""
        return {row.label: row.note for row in self.rows if row.note}


def method_of(config: Mapping[str, Any]) -> str:
    """The first method other than `full` in the schedule of a plain configuration, which may not be known here."""
    schedule, cells = config["schedule"], config["schedule"].get("cells", {})
    tables = [schedule, *schedule.get("rules", ()), *cells.values()]
    names = [table.get("method", "full") for table in tables]
    names += [cell for row in schedule.get("grid", ()) for cell in row if cell not in cells]
    return next((name for name in names if name != "full"), "full")


BESIDES = ("image_sizes", "image_shares", "bypass", "local")
"""What makes a run another one, whatever its methods are."""


def is_exact(config: Mapping[str, Any]) -> bool:
    """Whether a plain configuration is one of exact training, of the whole network on whole batches of whole images."""
    return method_of(config) == "full" and not any(config["schedule"].get(key) for key in BESIDES)


def row_of(config: Mapping[str, Any]) -> PaperRow | None:
    """The row whose run a plain configuration is: the same network, the same method in every cell.

    Whatever its seed, epochs, images, dispatch and chunk are.
    """
    model = config["model"]["name"]
    if any(config["schedule"].get(key) for key in BESIDES):
        return None
    try:
        cells = _cells(ScheduleConfig.model_validate(config["schedule"]), model)
    except (ValidationError, ConfigError):  # of another version of this program, or only possible in longer epochs
        return None
    return next((row for row in rows() if row.model == model and row.cells == cells), None)


def names() -> tuple[str, ...]:
    """The experiments that `get` knows, in the order of the paper."""
    return tuple(_EXPERIMENTS)


def get(name: str) -> Experiment:
    """The table or figure of that name. ConfigError names what there is."""
    if name not in _EXPERIMENTS:
        close = difflib.get_close_matches(name, _EXPERIMENTS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"the paper has no {name!r} to reproduce; there are {', '.join(_EXPERIMENTS)} and all.{hint}")
    return _EXPERIMENTS[name]


def rows(experiments: Iterable[Experiment] | None = None) -> tuple[PaperRow, ...]:
    """Every run that these experiments (all, if not given) need, once, in the order of the paper."""
    every = _EXPERIMENTS.values() if experiments is None else experiments
    return tuple({row.name: row for experiment in every for row in experiment.rows}.values())


def stated_accuracy(name: str) -> float | None:
    """The accuracy that the paper states for a run in any table: Table 3 has losses only, and Table 5 says of what."""
    every = (row for experiment in _EXPERIMENTS.values() for row in experiment.rows if row.name == name)
    return next((row.paper.accuracy for row in every if row.paper.accuracy), None)


def _cells(schedule: ScheduleConfig, model: str) -> Schedule:
    unlimited = schedule.model_copy(update={"max_columns": 2**31})
    return Schedule.from_config(unlimited, models.get(model).layers, steps_per_epoch=1)


def _methods(model: str, schedule: str, zero: Paper, random: Paper, approx: Paper) -> tuple[PaperRow, ...]:
    """The paper's three methods under a schedule of the network, and approx without the factor."""
    stem = f"{model}{schedule}"

    def row(name: str, label: str, paper: Paper, *overrides: str, **more: Any) -> PaperRow:
        method = f"schedule.method={name.partition('-')[0]}"
        return PaperRow(f"{stem}-{name}", label, model, f"{stem}-approx", (method, *overrides), paper=paper, **more)

    factor, scale = "times 1/batch, as the paper has it", "schedule.params.scale=paper"
    return (
        row("zero", "Zero Gradient", zero),
        row("random", "Random Gradient", random),
        row("approx-paper", "Approx. Gradient", approx, scale, note=factor),
        row("approx", "Approx. Gradient, scale 1", approx, ours=True, note="without the paper's factor of 1/128"),
    )


def _full(model: str, paper: Paper, label: str = "Full Gradient") -> PaperRow:
    return PaperRow(f"{model}-full", label, model, f"{model}-full", paper=paper)


def _pooled(model: str) -> PaperRow:
    rule = 'schedule={ rules = [{ method = "pooled", layers = { start = 2 } }] }'
    note = "in every layer but the first, at every step"
    return PaperRow(f"{model}-pooled", "Pooled Gradient, 2×2", model, f"{model}-full", (rule,), ours=True, note=note)


def _schedule(number: int, *percent: float) -> tuple[PaperRow, ...]:
    """The rows of a schedule in Table 5, with the accuracies of zero, random and approx."""
    methods = _methods("resnet20", f"-schedule{number}", *(Paper(accuracy=each) for each in percent))
    return tuple(replace(row, group=f"schedule {number}") for row in methods)


_EXACT = Paper(0.0, 0.0, "1x")

TABLE1 = (
    KernelRow(256, 256, 8, 0.89, 0.46, 0.05, 0.51, 1.7),
    KernelRow(128, 128, 16, 0.89, 0.20, 0.08, 0.28, 3.2),
    KernelRow(512, 512, 4, 1.00, 1.25, 0.07, 1.32, 0.8),
    KernelRow(512, 512, 2, 13.6, 1.22, 0.08, 1.30, 10.4),
    KernelRow(64, 64, 32, 1.51, 0.13, 0.16, 0.29, 5.2),
    KernelRow(16, 16, 32, 0.38, 0.04, 0.05, 0.09, 4.2),
    KernelRow(32, 32, 16, 0.20, 0.03, 0.02, 0.05, 4.0),
    KernelRow(64, 64, 8, 0.22, 0.04, 0.02, 0.06, 3.7),
)
_TABLE2 = (
    _full("cnn2", _EXACT),
    *_methods("cnn2", "", Paper(0.2, -5.7), Paper(-0.8, -38.0), Paper(1.0, -6.6)),
    _pooled("cnn2"),
)
_TABLE3 = (
    _full("resnet20", _EXACT),
    *_methods("resnet20", "-schedule1", Paper(1.5, 7.1), Paper(1.8, -1.4), Paper(0.75, 3.5)),
    _pooled("resnet20"),
    _full("resnet14", Paper(1.0, 22.0), "ResNet-14"),
)
_TABLE4 = (
    _full("vgg19", _EXACT),
    *_methods("vgg19", "-schedule1", Paper(1.0, 7.3), Paper(0.1, -100.0, "Over -100%"), Paper(0.7, 1.5)),
    _pooled("vgg19"),
)
_TABLE5 = (
    _full("resnet20", Paper(accuracy=91.8)),
    *_schedule(1, 90.3, 90.0, 91.1),
    *_schedule(2, 91.6, 88.8, 91.6),
    *_schedule(3, 91.1, 87.9, 91.7),
    _pooled("resnet20"),
    _full("resnet14", Paper(accuracy=90.8), "ResNet-14"),
)
_FIGURE8 = tuple(row for row in _TABLE5[:-1] if row.group != "schedule 1")
_TABLE, _FIGURE = "Speed-up and accuracy loss", "Training loss and validation accuracy"

_EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment("table1", "Table 1. Performance comparisons of the kernel", "kernel"),
        Experiment("table2", f"Table 2. {_TABLE}, 2-layer CNN", "table", "cnn2", _TABLE2),
        Experiment("table3", f"Table 3. {_TABLE}, ResNet-20", "table", "resnet20", _TABLE3),
        Experiment("table4", f"Table 4. {_TABLE}, VGG-19", "table", "vgg19", _TABLE4),
        Experiment("table5", "Table 5. Validation accuracy by schedule, ResNet-20", "table", "resnet20", _TABLE5),
        Experiment("figure5", f"Figure 5. {_FIGURE}, 2-layer CNN", "figure", "cnn2", _TABLE2),
        Experiment("figure6", f"Figure 6. {_FIGURE}, ResNet-20", "figure", "resnet20", _TABLE3[:-1]),
        Experiment("figure7", f"Figure 7. {_FIGURE}, VGG-19", "figure", "vgg19", _TABLE4),
        Experiment("figure8", f"Figure 8. {_FIGURE}, ResNet-20, schedules 2 and 3", "figure", "resnet20", _FIGURE8),
    )
}
