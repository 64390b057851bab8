"""`approxtrain train`: run a configuration in a folder, and say what is going on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from approxtrain.errors import ConfigError
from approxtrain_cli import output

if TYPE_CHECKING:
    from approxtrain.config import Config
    from approxtrain.data import ImageSet
    from approxtrain.run.folder import RunFolder


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG] [KEY=VALUE]...", help="Preset or TOML file (default: quickstart), overrides."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; a new one under runs/ where left out.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, show it, train nothing.")] = False,
) -> None:
    """Train a network under an approximation schedule.

    \b
    approxtrain train                                     the quickstart, minutes on a CPU
    approxtrain train cnn2-approx data.dir=FOLDER         a preset on CIFAR-10
    approxtrain train data.dir=DIR data.name=NAME         images of your own, DIR/train/CLASS/*.png
    approxtrain train my.toml train.epochs=3 --out DIR    your own file, changed a little
    approxtrain train --resume DIR                        go on, bit for bit
    """
    from approxtrain.training.signals import ending

    # until the first step, and after the last, when the run itself answers no signal any more
    told = (
        "Stopped by a signal. Nothing is lost: give the command again, or go on with `approxtrain train --resume DIR`."
    )
    with ending(told, lambda: output.tell("stopping …; once more leaves at once")):
        _train(arguments or [], out, resume, dry_run)


def _train(arguments: list[str], out: Path | None, resume: Path | None, dry_run: bool) -> None:
    from approxtrain.config import load, split

    source, overrides = split(arguments)
    if resume is None:
        config = load(source, overrides)
        if dry_run:
            _show(config)
        else:
            _start(config, out)
    elif source is not None or out is not None or dry_run:
        raise ConfigError(
            "`--resume DIR` takes the configuration from the folder: give no preset, --out or --dry-run with it. "
            "train.epochs=N (longer), train.checkpoint_every=N, train.check=finite, train.verify_every=N, "
            "train.trackers=[…], data.dir=PATH and data.workers=N may be given."
        )
    else:
        _resume(resume, overrides)


def _start(config: Config, out: Path | None) -> None:
    from approxtrain.run.folder import RunFolder, default_path
    from approxtrain.training.trackers import refuse_missing
    from approxtrain.training.workload import Workload

    refuse_missing(config.train.trackers)
    dataset = Workload.of(config).dataset  # all that can be wrong is found before a folder is made
    parts, train = (config.model.name, config.schedule.title), config.train
    path = out or default_path(*parts, seed=train.seed, seeds=train.seeds)
    with RunFolder.create(path) as folder:
        _run(config, folder, dataset)


def _resume(path: Path, overrides: list[str]) -> None:
    from approxtrain.config import load, plain, refuse_changes
    from approxtrain.run.folder import RunFolder

    with RunFolder.open(path) as folder:
        before = load(str(folder.config))
        config = load(str(folder.config), overrides)
        refuse_changes(plain(before), plain(config))
        _run(config, folder)


def _run(config: Config, folder: RunFolder, dataset: ImageSet | None = None) -> None:
    from approxtrain_cli.progress import Progress

    with Progress(folder.path) as progress:
        progress.say("starting jax …")
        from approxtrain.run import process
        from approxtrain.training.loop import Run  # this imports jax, which takes seconds

        process.keep_programs(warn=progress.warn)

        summary = Run(config, folder, progress, dataset).train()
    progress.conclude(summary)


def _show(config: Config) -> None:
    """What `train` would do, without doing it."""
    from approxtrain.config import dump
    from approxtrain.training.trackers import refuse_missing
    from approxtrain.training.workload import Workload

    refuse_missing(config.train.trackers)
    work = Workload.of(config)
    model, images, epochs = work.model, work.dataset, config.train.epochs
    typer.echo(dump(config))
    typer.echo(f"# {model.name}: {len(model.layers)} convolutions, {len(work.schedule.columns)} distinct columns")
    for line in model.unreached:
        typer.echo(f"# {line}")
    typer.echo(f"# {images.name}: {len(images.train)} training and {len(images.validation)} validation images")
    for warning in (*work.without_effect(config.schedule.dispatch), *work.not_validated()):
        typer.echo(f"# warning: {warning}")
    typer.echo(f"# {epochs} epochs of {work.steps_per_epoch} steps = {work.total_steps} steps; nothing was trained")
