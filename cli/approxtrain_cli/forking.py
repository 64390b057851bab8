"""An exact run that is forked on its way: what `worth` and `schedule-tune` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from approxtrain.errors import ConfigError, InterruptedRun

if TYPE_CHECKING:
    from approxtrain.config import Config
    from approxtrain.training.workload import Workload
    from approxtrain.worth.fork_file import ForkFile
    from approxtrain.worth.forks import Arm, Forks

GOES_ON = "Stopped by a signal. What was measured is kept: the same command goes on."
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and do nothing.")]


def exact(config: Config) -> Workload:
    """The exact run; a tenth of the training images is held out where it would be judged by its test images."""
    from approxtrain import data
    from approxtrain.schedule import ScheduleConfig
    from approxtrain.training.workload import Workload

    if config.train.epochs < 2:
        raise ConfigError("`train.epochs` (=1): a run is forked on its way; give it two epochs or more.")
    if config.train.seeds > 1:
        raise ConfigError(f"`train.seeds` (={config.train.seeds}): one run is forked; --forks=N has several of each.")
    images = data.load(config.data)
    if judged_by_test := images.validated_on == "test" and not config.data.holdout:
        held_out = config.data.model_copy(update={"holdout": len(images.train) // 10})
        config = config.model_copy(update={"data": held_out})
    config = config.model_copy(update={"schedule": ScheduleConfig(name="full")})
    return Workload.of(config, None if judged_by_test else images)


def settings(work: Workload, arms: Sequence[Arm], at: Sequence[int], steps: int, seeds: int) -> dict[str, Any]:
    """All that a measurement depends on: the run, and its forks into `arms` and exact steps, `steps` at most an
    epoch's, after the epochs `at`."""
    from approxtrain.config import plain

    schedules = {arm.name: arm.schedule.model_dump(mode="json", exclude_defaults=True) for arm in arms}
    # where the images lie says nothing about the measurement; what they are does
    config = work.config.model_copy(update={"data": work.config.data.model_copy(update={"dir": None})})
    images = work.dataset.identity
    sizes = {"steps": steps, "seeds": seeds, "at": list(at)}
    return {"config": plain(config), "data": images, "arms": schedules, **sizes}


def measured(
    work: Workload, arms: Sequence[Arm], settings: dict[str, Any], path: Path, *, aligned: bool = True, dry_run: bool
) -> ForkFile | None:
    """Train the exact run beside `path`, fork it and time its steps, or go on with that; the file has what came of it.

    Of a dry run None: it only says what all of it would take.
    """
    from approxtrain.training.signals import ending
    from approxtrain.worth.fork_file import ForkFile
    from approxtrain.worth.forks import EXACT_ARMS, Forks, due, planned
    from approxtrain.worth.step_times import ROUNDS

    every = [*EXACT_ARMS, *arms]
    at, steps, seeds = settings["at"], settings["steps"], settings["seeds"]
    typer.echo(
        f"costs     {work.total_steps:,} steps of an exact run, and "
        f"{planned(every, at, steps, seeds):,} in forks: {len(every)} kinds × {seeds} seeds × {steps} steps at most, "
        f"after epoch{'s' if len(at) > 1 else ''} {', '.join(map(str, at))}"
    )
    typer.echo(f"timed     in {ROUNDS} rounds, side by side: steps of {len(arms)} kinds and exact ones")
    typer.echo(f"judged by {len(work.dataset.validation):,} images ({work.dataset.validated_on})")
    if dry_run:
        return None
    file = ForkFile(path, settings)
    forks = Forks(every, at, steps, seeds, file, typer.echo, aligned=aligned)
    with ending(GOES_ON):
        summary = _train(work, path.parent / "exact", forks)
        if missing := [arm.name for epoch in at for arm in due(every, at, epoch) if not file.has(epoch, arm.name)]:
            raise ConfigError(
                f"`{path.parent / 'exact'}` went on without being forked ({missing[0]}): take `{path.parent}` away, "
                "and measure anew."
            )
        file.write(exact_accuracy=100 * summary["final_accuracy"])
        if "times" not in file.more:
            typer.echo("timing the steps …")
            file.write(times=_times(work, arms, file))
    return file


def _times(work: Workload, arms: Sequence[Arm], file: ForkFile) -> dict[str, dict[str, float]]:
    """Of each arm after each epoch the time of the steps that it forked by its schedule, as a share of exact ones'."""
    from approxtrain.worth.step_times import Span, step_times

    schedules = {arm.name: arm.schedule for arm in arms}
    spans = {
        (fork.arm, fork.epoch): Span(schedules[fork.arm], fork.first, fork.first + round(fork.until * fork.steps))
        for fork in file.forks
        if fork.arm in schedules
    }
    found: dict[str, dict[str, float]] = {}
    for (arm, epoch), time in step_times(work, spans).items():
        found.setdefault(arm, {})[str(epoch)] = time
    return found


def _train(work: Workload, path: Path, forks: Forks) -> dict[str, Any]:
    """Train, or go on with, the exact run in the folder `path`, and fork it; the run's summary."""
    from approxtrain.run.folder import CONFIG, RunFolder
    from approxtrain.training.trackers import Several
    from approxtrain_cli.progress import Progress

    folder = RunFolder.open(path) if (path / CONFIG).is_file() else RunFolder.create(path)
    with folder, Progress(path) as progress:
        from approxtrain.run import process
        from approxtrain.training.loop import Run

        process.keep_programs(warn=progress.warn)
        forks.told, forks.spent = progress.say, progress.compiled  # as compiling, no time of training
        try:
            return Run(work.config, folder, Several(progress, forks), work.dataset).train()
        except InterruptedRun as error:  # whose advice is to go on with the run by itself
            raise InterruptedRun(error.signal_number, GOES_ON) from None
