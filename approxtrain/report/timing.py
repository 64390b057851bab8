"""How long the steps of runs took, and how much of them a schedule saves, by the paper's definition
1 − T_method / T_full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from statistics import median
from typing import Any

from approxtrain.report.estimates import Estimate, estimate
from approxtrain.report.inputs import BenchFile
from approxtrain.report.selection import RowRuns, Selection
from approxtrain.run.archive import Archive

RUNS = "steps of the runs"
STEADY = 20
"""Steps of a run that say what one takes."""


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


def elapsed(archive: Archive) -> dict[int, float]:
    """Epoch → seconds of all steps up to its end, without compiling, validation and checkpoints; of several seeds at
    once, the share of one. Empty where a part is unknown.

    Where a run was resumed within an epoch, the seconds of what is known of it stand for the whole.
    """
    total, found = 0.0, {}
    for row in archive.epochs:
        if not row.get("steps"):
            return {}
        total += row["seconds"] * row["step"] / row["epoch"] / row["steps"]
        found[row["epoch"]] = total / archive.summary.get("seeds", 1)
    return found


def machine(archive: Archive) -> tuple[Any, ...]:
    """The machine and what of it a run's time depends on: times that differ in it are not held against each other."""
    names = ("device", "device_count", "processor", "cpu_count", "xla_flags", "cpu_convolutions")
    versions = archive.environment.get("versions", {})
    together = archive.summary.get("seeds", 1), archive.summary.get("seeds_by")
    place = (archive.environment.get(name) for name in names)
    return (*place, versions.get("jax"), versions.get("jaxlib"), *together)


def same_steps(archive: Archive) -> tuple[Any, ...]:
    """What two runs share whose steps were timed on one machine, and as many in a call."""
    return (*machine(archive), archive.summary.get("chunk", 1))


def timed(selection: Selection, runs: RowRuns) -> dict[int, Archive]:
    """The finished runs of a row on the machine where most of all rows were: times are compared there only."""
    machines = Counter(machine(run) for each in selection.rows for run in each.finished.values())
    return {seed: run for seed, run in runs.finished.items() if machine(run) == machines.most_common(1)[0][0]}


def speed_up(
    selection: Selection, runs: RowRuns, titles: Sequence[str], steps: Sequence[BenchFile]
) -> tuple[Estimate | None, str | None]:
    """Percent of the exact step, of interleaved steps where they were measured, else of the runs' own, and where it is
    from. `titles` is what `bench-step` may call the row's schedule."""
    if found := _interleaved(selection, titles, steps):
        return found
    own = estimate([100 * (1 - ratio) for ratio in step_ratios(runs, selection.full)])
    return own, RUNS if own else None


def step_ratios(runs: RowRuns, base: RowRuns, alike: Callable[[Archive], Hashable] = same_steps) -> list[float]:
    """A step over one of `base`, of each seed that both have and whose two runs were timed alike."""
    ratios = []
    for seed in runs.finished.keys() & base.finished.keys():
        pair = runs.finished[seed], base.finished[seed]
        seconds, base_seconds = map(step_seconds, pair)
        if seconds and base_seconds and alike(pair[0]) == alike(pair[1]):
            ratios.append(seconds / base_seconds)
    return ratios


def _interleaved(
    selection: Selection, titles: Sequence[str], steps: Sequence[BenchFile]
) -> tuple[Estimate, str] | None:
    """The schedule in a JSON of `bench-step`, at the batch and precision of the runs, from a device of theirs."""
    wanted = (selection.model, *(selection.protocol.train[name] for name in ("batch_size", "precision")))
    devices = {_device(archive.environment) for archive in selection.archives}
    for title in titles:
        for name, measured in steps:
            alike = tuple(measured[key] for key in ("model", "batch", "precision")) == wanted
            if alike and title in measured["schedules"] and _device(measured["environment"]) in devices:
                share = measured["schedules"][title]["speed_up"]
                value, low, high = (100 * share[key] for key in ("value", "low", "high"))
                source = name if title == titles[0] else f"{name}, {title}"
                return Estimate(value, low, high, measured["rounds"]), source
    return None


def _device(environment: Mapping[str, Any]) -> tuple[Any, Any]:
    return environment.get("device"), environment.get("processor")
