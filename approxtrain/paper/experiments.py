"""The paper's Tables 1–5 and Figures 5–8 as data: which runs they need, and what the paper prints.

    get("table3").rows          the runs of Table 3, each a `Row`
    get("table3").rows[0].config(["train.epochs=3"])

A row is a network under a schedule. How long it trains, on which images and from which seed are no part of it: one run
serves every table and figure that has its row. Beside the paper's rows each table has two of ours: `approx` without the
paper's factor of 1/128, and `pooled(2)` in every layer but the first. Imports no jax.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError

from approxtrain import models
from approxtrain.config import Config, load
from approxtrain.errors import ConfigError
from approxtrain.schedule import Schedule, ScheduleConfig

FULL = "Full Gradient"
SCHEDULES = ("schedule 1", "schedule 2", "schedule 3")


@dataclass(frozen=True)
class Paper:
    """What the paper prints for a row: one run, best validation accuracy, None where it prints nothing."""

    accuracy: float | None = None
    """Percent."""
    accuracy_loss: float | None = None
    """Percentage points below full; negative where the row is better."""
    speed_up: float | None = None
    """Percent, 1 − T/T_full; negative where the row is slower."""
    speed_up_printed: str = ""
    """Where the paper prints no number of percent: "1x", "Over -100%"."""


@dataclass(frozen=True)
class Row:
    """A network under a schedule: `approxtrain train PRESET OVERRIDES…`."""

    name: str
    """Of the run: unique, and a file name."""
    label: str
    """Of the method, as the paper's tables have it."""
    model: str
    preset: str
    overrides: tuple[str, ...] = ()
    group: str = ""
    """"schedule 2" where an experiment has rows of several schedules; empty for what belongs to all of them."""
    paper: Paper | None = None
    """What the row is held against. The paper has one approx: both of ours are held against it."""
    ours: bool = False
    """The paper does not have this row."""
    note: str = ""

    def config(self, overrides: Sequence[str] = ()) -> Config:
        """The configuration of a run of this row; `overrides` as in `train`. ConfigError."""
        return load(self.preset, [*self.overrides, *overrides])


@dataclass(frozen=True)
class KernelRow:
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
    rows: tuple[Row, ...] = ()
    kernel_rows: tuple[KernelRow, ...] = ()

    @property
    def short(self) -> str:
        """ "Table 3" """
        return self.title.partition(".")[0]

    @property
    def baseline(self) -> Row:
        """The exact run that the others are held against."""
        return next(row for row in self.rows if row.label == FULL)

    @property
    def groups(self) -> tuple[str, ...]:
        """The schedules that its rows are grouped by; none where there is one schedule."""
        return tuple(dict.fromkeys(row.group for row in self.rows if row.group))


def matches(row: Row, config: Mapping[str, Any]) -> bool:
    """Whether the run of a plain configuration is this row's: the same network, the same method in every cell.

    Whatever its seed, epochs, images, dispatch and chunk are.
    """
    if config["model"]["name"] != row.model:
        return False
    try:
        found = _cells(ScheduleConfig.model_validate(config["schedule"]), row.model)
    except (ValidationError, ConfigError):  # of another version of this program, or only possible in longer epochs
        return False
    return found == _cells(row.config().schedule, row.model)


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


def rows() -> tuple[Row, ...]:
    """Every run that any experiment needs, once, in the order of the paper."""
    found: dict[str, Row] = {}
    for experiment in _EXPERIMENTS.values():
        for row in experiment.rows:
            found.setdefault(row.name, row)
    return tuple(found.values())


def _cells(schedule: ScheduleConfig, model: str) -> Schedule:
    unlimited = schedule.model_copy(update={"max_columns": 2**31})
    return Schedule.from_config(unlimited, models.get(model).layers, steps_per_epoch=1)


def _methods(stem: str, model: str, preset: str, zero: Paper, random: Paper, approx: Paper) -> tuple[Row, ...]:
    """The paper's three methods under the schedule of `preset`, and approx without the factor."""
    return (
        Row(f"{stem}-zero", "Zero Gradient", model, preset, ("schedule.method=zero",), paper=zero),
        Row(f"{stem}-random", "Random Gradient", model, preset, ("schedule.method=random",), paper=random),
        Row(
            f"{stem}-approx-paper",
            "Approx. Gradient",
            model,
            preset,
            ("schedule.method=approx", "schedule.params.scale=paper"),
            paper=approx,
            note="times 1/batch, as the paper has it",
        ),
        Row(
            f"{stem}-approx",
            "Approx. Gradient, scale 1",
            model,
            preset,
            ("schedule.method=approx",),
            paper=approx,
            ours=True,
            note="without the paper's factor of 1/128",
        ),
    )


def _pooled(model: str) -> Row:
    rule = 'schedule={ rules = [{ method = "pooled", layers = { start = 2 } }] }'
    note = "in every layer but the first, at every step"
    return Row(f"{model}-pooled", "Pooled Gradient, 2×2", model, f"{model}-full", (rule,), ours=True, note=note)


def _full(model: str, **paper: Any) -> Row:
    return Row(f"{model}-full", FULL, model, f"{model}-full", paper=Paper(**paper))


def _resnet14(**paper: Any) -> Row:
    return Row("resnet14-full", "ResNet-14", "resnet14", "resnet14-full", paper=Paper(**paper))


def _lost(accuracy_loss: float, speed_up: float, printed: str = "") -> Paper:
    return Paper(accuracy_loss=accuracy_loss, speed_up=speed_up, speed_up_printed=printed)


def _grouped(group: str, rows: Sequence[Row]) -> tuple[Row, ...]:
    return tuple(replace(row, group=group) for row in rows)


def _resnet20(number: int, zero: Paper, random: Paper, approx: Paper) -> tuple[Row, ...]:
    schedule = f"resnet20-schedule{number}"
    return _methods(schedule, "resnet20", f"{schedule}-approx", zero, random, approx)


def _accuracies(*percent: float) -> list[Paper]:
    return [Paper(accuracy=each) for each in percent]


_EXACT = {"accuracy_loss": 0.0, "speed_up": 0.0, "speed_up_printed": "1x"}

_TABLE1 = (
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
    _full("cnn2", **_EXACT),
    *_methods("cnn2", "cnn2", "cnn2-approx", _lost(0.2, -5.7), _lost(-0.8, -38.0), _lost(1.0, -6.6)),
    _pooled("cnn2"),
)

_TABLE3 = (
    _full("resnet20", **_EXACT),
    *_resnet20(1, _lost(1.5, 7.1), _lost(1.8, -1.4), _lost(0.75, 3.5)),
    _pooled("resnet20"),
    _resnet14(accuracy_loss=1.0, speed_up=22.0),
)

_TABLE4 = (
    _full("vgg19", **_EXACT),
    *_methods(
        "vgg19-schedule1",
        "vgg19",
        "vgg19-schedule1-approx",
        _lost(1.0, 7.3),
        _lost(0.1, -100.0, "Over -100%"),
        _lost(0.7, 1.5),
    ),
    _pooled("vgg19"),
)

_TABLE5 = (
    _full("resnet20", accuracy=91.8),
    *_grouped(SCHEDULES[0], _resnet20(1, *_accuracies(90.3, 90.0, 91.1))),
    *_grouped(SCHEDULES[1], _resnet20(2, *_accuracies(91.6, 88.8, 91.6))),
    *_grouped(SCHEDULES[2], _resnet20(3, *_accuracies(91.1, 87.9, 91.7))),
    _pooled("resnet20"),
    _resnet14(accuracy=90.8),
)


def _figure(rows: Sequence[Row], *groups: str) -> tuple[Row, ...]:
    """The curves of a figure: the rows of a table, without the smaller network and other schedules."""
    return tuple(row for row in rows if row.model != "resnet14" and (not row.group or row.group in groups))


_EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment("table1", "Table 1. Performance comparisons of the kernel", "kernel", kernel_rows=_TABLE1),
        Experiment("table2", "Table 2. Speed-up and accuracy loss, 2-layer CNN", "table", "cnn2", _TABLE2),
        Experiment("table3", "Table 3. Speed-up and accuracy loss, ResNet-20", "table", "resnet20", _TABLE3),
        Experiment("table4", "Table 4. Speed-up and accuracy loss, VGG-19", "table", "vgg19", _TABLE4),
        Experiment("table5", "Table 5. Validation accuracy by schedule, ResNet-20", "table", "resnet20", _TABLE5),
        Experiment(
            "figure5", "Figure 5. Training loss and validation accuracy, 2-layer CNN", "figure", "cnn2", _TABLE2
        ),
        Experiment(
            "figure6",
            "Figure 6. Training loss and validation accuracy, ResNet-20",
            "figure",
            "resnet20",
            _figure(_TABLE3),
        ),
        Experiment("figure7", "Figure 7. Training loss and validation accuracy, VGG-19", "figure", "vgg19", _TABLE4),
        Experiment(
            "figure8",
            "Figure 8. Training loss and validation accuracy, ResNet-20, schedules 2 and 3",
            "figure",
            "resnet20",
            _figure(_TABLE5, *SCHEDULES[1:]),
        ),
    )
}
