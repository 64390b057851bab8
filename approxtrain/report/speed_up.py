"""How much of a step a row saves, by the paper's definition 1 − T_method / T_full; and the most it could save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from approxtrain import models
from approxtrain.paper.experiments import PaperRow
from approxtrain.report.estimates import Estimate, estimate
from approxtrain.report.inputs import BenchFile
from approxtrain.report.selection import RowRuns, Selection
from approxtrain.run.archive import Archive
from approxtrain.schedule.cost import layer_flops, phase_costs

RUNS = "steps of the runs"
STEADY = 20
"""Steps of a run that say what one takes."""


class SpeedUp(NamedTuple):
    """Percent of the exact step, of so many pairs of runs by seed or rounds of an interleaved measurement."""

    percent: Estimate
    source: str


def speed_up(selection: Selection, runs: RowRuns, steps: Sequence[BenchFile]) -> SpeedUp | None:
    """Of interleaved steps where they were measured, else of the runs' own; None where there are none."""
    if found := _interleaved(selection, runs.row, steps):
        return found
    own = estimate([100 * (1 - ratio) for ratio in step_ratios(runs, selection.full)])
    return SpeedUp(own, RUNS) if own else None


def bound(selection: Selection, row: PaperRow) -> float:
    """Percent of the convolutions' operations that the row leaves out, its replaced weight gradients counted free."""
    layers, full = models.get(row.model).layers, models.get(selection.experiment.model).layers
    batch = selection.protocol.train["batch_size"]
    saved = 1 - sum(layer_flops(layers, batch)) / sum(layer_flops(full, batch))  # by a smaller network
    return 100 * (saved + (1 - saved) * phase_costs(row.cells, layers, batch)[-1].largest_speed_up)


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


def step_ratios(runs: RowRuns, base: RowRuns) -> list[float]:
    """A step over one of `base`, of each seed that both have and whose two runs were timed alike."""
    ratios = []
    for seed in runs.finished.keys() & base.finished.keys():
        pair = runs.finished[seed], base.finished[seed]
        seconds, base_seconds = map(step_seconds, pair)
        if seconds and base_seconds and timed_on(pair[0]) == timed_on(pair[1]):
            ratios.append(seconds / base_seconds)
    return ratios


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


def timed_on(archive: Archive) -> tuple[Any, ...]:
    """The machine and what of it a step's time depends on: times that differ in it are not held against each other."""
    names = ("device", "device_count", "processor", "cpu_count", "xla_flags", "cpu_convolutions")
    versions = archive.environment.get("versions", {})
    together = archive.summary.get("seeds", 1), archive.summary.get("seeds_by"), archive.summary.get("chunk", 1)
    machine = (archive.environment.get(name) for name in names)
    return (*machine, versions.get("jax"), versions.get("jaxlib"), *together)


def _interleaved(selection: Selection, row: PaperRow, steps: Sequence[BenchFile]) -> SpeedUp | None:
    """The row's schedule in a JSON of `bench-step`, at the batch and precision of the runs, from a device of theirs."""
    if row.model != selection.experiment.model:  # its exact step is in another file, and was not interleaved
        return None
    wanted = (row.model, *(selection.protocol.train[name] for name in ("batch_size", "precision")))
    devices = {_device(archive.environment) for archive in selection.archives}
    titles = _titles(row)
    for title in titles:
        for name, measured in steps:
            alike = tuple(measured[key] for key in ("model", "batch", "precision")) == wanted
            if alike and title in measured["schedules"] and _device(measured["environment"]) in devices:
                share = measured["schedules"][title]["speed_up"]
                value, low, high = (100 * share[key] for key in ("value", "low", "high"))
                source = name if title == titles[0] else f"{name}, {title}"
                return SpeedUp(Estimate(value, low, high, measured["rounds"]), source)
    return None


def _device(environment: Mapping[str, Any]) -> tuple[Any, Any]:
    return environment.get("device"), environment.get("processor")


def _titles(row: PaperRow) -> list[str]:
    """What `bench-step` calls the row's schedule: by title, or by preset, where it has rules.

    The paper's factor costs nothing: without it the schedule may stand in.
    """
    schedule = row.config().schedule
    if not schedule.name:
        return [row.name]
    return list(dict.fromkeys([schedule.title, schedule.model_copy(update={"params": {}}).title]))
