"""How much of a step a row saves, by the paper's definition 1 − T_method / T_full; and the most it could save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from approxtrain import models
from approxtrain.bench.timing import Times, ratio_of_runs
from approxtrain.paper.experiments import Row
from approxtrain.report.inputs import Measured
from approxtrain.report.selection import RowRuns, Selection
from approxtrain.report.statistics import estimate
from approxtrain.run.archive import Archive
from approxtrain.schedule import Schedule
from approxtrain.schedule.cost import layer_flops, phase_costs

RUNS = "steps of the runs"
STEADY = 20
"""Steps of a run that say what one takes."""


@dataclass(frozen=True)
class SpeedUp:
    """Percent of the exact step; a 95 % interval where there is one."""

    value: float
    low: float | None
    high: float | None
    n: int
    """Pairs of runs by seed, or rounds of an interleaved measurement."""
    source: str


def speed_up(selection: Selection, runs: RowRuns, steps: Sequence[Measured]) -> SpeedUp | None:
    """Of interleaved steps where they were measured, else of the runs' own; None where there are none."""
    return _interleaved(selection, runs.row, steps) or _of_runs(selection.full, runs)


def bound(selection: Selection, row: Row) -> float:
    """Percent of the convolutions' operations that the row leaves out, its replaced weight gradients counted free."""
    config = row.config()
    layers, full = models.get(row.model).layers, models.get(selection.experiment.model).layers
    batch = selection.protocol.setting("train", "batch_size")
    saved = 1 - sum(layer_flops(layers, batch)) / sum(layer_flops(full, batch))  # of a smaller network
    schedule = Schedule.from_config(config.schedule, layers, steps_per_epoch=1)
    return 100 * (saved + (1 - saved) * phase_costs(schedule, layers, batch)[-1].largest_speed_up)


def step_seconds(archive: Archive) -> float | None:
    """The mean step of the median epoch of a finished run, by the process that ended it; of several seeds at once, the
    share of one. None where there were fewer than STEADY.

    Not the median step: where the steps of two columns alternate, it is one of either, and not what a step costs.
    """
    if not archive.summary:
        return None
    begun = archive.summary.get("measured_from_step", 0)  # what was before may have been another machine's
    epochs = [row for row in archive.epochs if row["step"] > begun and row.get("steps")]
    if sum(row["steps"] for row in epochs) < STEADY:
        return None
    return median(row["seconds"] / row["steps"] for row in epochs) / archive.summary.get("seeds", 1)


def training_seconds(archive: Archive, *, compiling: bool = True) -> float | None:
    """Seconds of all steps, and of compiling; validation and checkpoints are not in it. None where a part is unknown.

    Where a run was resumed within an epoch, the seconds of what is known of it stand for the whole.
    """
    total = archive.summary.get("compile_seconds", 0.0) if compiling else 0.0
    for row in archive.epochs:
        if not row.get("steps"):
            return None
        total += row["seconds"] * row["step"] / row["epoch"] / row["steps"]
    return total / archive.summary.get("seeds", 1)


def place(archive: Archive) -> tuple[Any, ...]:
    """Where the clock of a run ran, and over what: times of two places are not held against each other."""
    there = archive.environment
    names = ("device", "device_count", "processor", "cpu_count", "xla_flags", "cpu_convolutions")
    versions = there.get("versions", {})
    grouped = archive.summary.get("seeds", 1), archive.summary.get("seeds_by"), archive.summary.get("chunk", 1)
    return (*(there.get(name) for name in names), versions.get("jax"), versions.get("jaxlib"), *grouped)


def _of_runs(full: RowRuns, runs: RowRuns) -> SpeedUp | None:
    found = []
    for seed in sorted(full.finished.keys() & runs.finished.keys()):
        base, own = full.finished[seed], runs.finished[seed]
        exact, mine = step_seconds(base), step_seconds(own)
        if exact and mine and place(base) == place(own):
            found.append(100 * (1 - mine / exact))
    mean = estimate(found)
    return None if mean is None else SpeedUp(mean.mean, mean.low, mean.high, mean.n, RUNS)


def _interleaved(selection: Selection, row: Row, steps: Sequence[Measured]) -> SpeedUp | None:
    """From the JSON of bench-step: the schedule's own figure, or two exact steps where the row is another network."""
    own = _files(row.model, selection, steps)
    if row.model != selection.experiment.model:
        return _of_networks(own, _files(selection.experiment.model, selection, steps))
    titles = _titles(row)
    for title in titles:
        for measured in own:
            if title in measured.values["schedules"]:
                found = measured.values["schedules"][title]["speed_up"]
                source = measured.name if title == titles[0] else f"{measured.name}, {title}"
                value, low, high = (100 * found[name] for name in ("value", "low", "high"))
                return SpeedUp(value, low, high, measured.values["rounds"], source)
    return None


def _files(model: str, selection: Selection, steps: Sequence[Measured]) -> list[Measured]:
    """The measurements of a network at the batch and precision of the runs, on a device of theirs."""
    setting = selection.protocol.setting
    wanted = (model, setting("train", "batch_size"), setting("train", "precision"))
    found = [one for one in steps if tuple(one.values[name] for name in ("model", "batch", "precision")) == wanted]
    here = {_device(archive.environment) for archive in selection.archives}
    return [one for one in found if _device(one.values["environment"]) in here]


def _device(environment: Mapping[str, Any]) -> tuple[Any, Any]:
    return environment.get("device"), environment.get("processor")


def _titles(row: Row) -> list[str]:
    """What bench-step may call the row's schedule: its title, its title without the factor, which costs nothing, or
    the name of its preset."""
    schedule = row.config().schedule
    names = [schedule.title] if schedule.name else []
    if schedule.name and "scale" in schedule.params:
        params = {name: value for name, value in schedule.params.items() if name != "scale"}
        names.append(schedule.model_copy(update={"params": params}).title)
    return [*names, row.name]


def _of_networks(own: Sequence[Measured], exact: Sequence[Measured]) -> SpeedUp | None:
    """The exact steps of two networks, measured one after the other on the same device."""
    for mine in own:
        for base in exact:
            same = ("device", "processor", "cpu_count", "versions")
            if all(mine.values["environment"][name] == base.values["environment"][name] for name in same):
                times = [
                    Times.of_milliseconds(one.values["contenders"]["full"]["milliseconds"]) for one in (mine, base)
                ]
                found = ratio_of_runs(*times)
                value, low, high = (100 * (1 - share) for share in (found.value, found.high, found.low))
                return SpeedUp(value, low, high, found.rounds, f"{mine.name} and {base.name}, not interleaved")
    return None
