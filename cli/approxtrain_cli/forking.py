"""An exact run that is forked on its way: what `worth` and `schedule-tune` have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from approxtrain.config import Config
    from approxtrain.training.workload import Workload
    from approxtrain.worth.forks import Forks


def exact(config: Config) -> Workload:
    """The exact run; a tenth of the training images is held out where it would be judged by its test images."""
    from approxtrain import data
    from approxtrain.schedule import ScheduleConfig
    from approxtrain.training.workload import Workload

    images = data.load(config.data)
    if judged_by_test := images.validated_on == "test" and not config.data.holdout:
        held_out = config.data.model_copy(update={"holdout": len(images.train) // 10})
        config = config.model_copy(update={"data": held_out})
    config = config.model_copy(update={"schedule": ScheduleConfig(name="full")})
    return Workload.of(config, None if judged_by_test else images)


def tell_cost(work: Workload, kinds: int, at: list[int], steps: int, seeds: int, forked: int) -> None:
    """What it takes, `forked` steps in forks of `steps`, and what the forks are judged by."""
    plural = "s" if len(at) > 1 else ""
    typer.echo(
        f"costs     {work.total_steps:,} steps of an exact run, and {forked:,} in forks of {steps} steps: {kinds} "
        f"kinds × {seeds} seeds after epoch{plural} {', '.join(map(str, at))}"
    )
    typer.echo(f"judged by {len(work.dataset.validation):,} images ({work.dataset.validated_on})")


def train(work: Workload, path: Path, forks: Forks) -> dict[str, Any]:
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
        return Run(work.config, folder, Several(progress, forks), work.dataset).train()
