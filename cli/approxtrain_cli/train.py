"""`approxtrain train`: run a configuration in a folder, and say what is going on."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from approxtrain.errors import ConfigError, RefusedError
from approxtrain.run.team import watch
from approxtrain_cli import faults, output

if TYPE_CHECKING:
    from approxtrain.config import Config
    from approxtrain.data import ImageSet
    from approxtrain.run.folder import RunFolder
    from approxtrain.run.team import Team
    from approxtrain_cli.member import Log


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG] [KEY=VALUE]...", help="Preset or TOML file (default: quickstart), overrides."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; a new one under runs/ where left out.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, show it, train nothing.")] = False,
    coordinator: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Of several processes: where process 0 listens.")
    ] = None,
    num_processes: Annotated[int | None, typer.Option(metavar="P", help="How many there are.")] = None,
    process_id: Annotated[int | None, typer.Option(metavar="I", help="The number of this one, from 0.")] = None,
    distributed: Annotated[
        bool, typer.Option("--distributed", help="Several processes, as the cluster tells jax (docs/clusters.md).")
    ] = False,
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
    from approxtrain_cli import member

    several = member.asked_for(coordinator, num_processes, process_id, distributed=distributed)
    if several and dry_run:
        raise ConfigError("--dry-run checks in one process: leave out what makes several of them.")
    if several and not watch.is_member():
        if isinstance(several, member.Place) and several.number == 0:
            _checked(arguments or [], out, resume)  # before the others are waited for
        raise typer.Exit(member.watched(several))

    # until the first step, and after the last, when the run itself answers no signal any more
    told = (
        "Stopped by a signal. Nothing is lost: give the command again, or go on with `approxtrain train --resume DIR`."
    )
    with ending(told, lambda: output.tell("stopping …; once more leaves at once")):
        if several:
            member.train(several, lambda team, log: _train_together(team, log, arguments or [], out, resume))
        else:
            _train(arguments or [], out, resume, dry_run)


def _train(arguments: list[str], out: Path | None, resume: Path | None, dry_run: bool) -> None:
    if dry_run and resume is None:
        _show(_loaded(arguments))
        return
    config, folder, dataset = _opened(arguments, out, resume, dry_run)
    with folder:
        _run(config, folder, dataset)


def _train_together(team: Team, log: Log, arguments: list[str], out: Path | None, resume: Path | None) -> None:
    """One process of several: the first has the run's folder, the others one that is thrown away."""
    from approxtrain.config import Config, plain
    from approxtrain.models.target import look_in
    from approxtrain.run.folder import RunFolder

    with ExitStack() as stack:
        config = folder = dataset = refused = None
        told: dict[str, Any] = {}
        if team.is_first:
            try:
                config, folder, dataset = _opened([*arguments, _all_devices(arguments)], out, resume)
                stack.enter_context(folder)
                told = {"folder": str(folder.path.absolute()), "config": plain(config), "code": _code_of(arguments)}
            except Exception as error:
                refused = faults.known(error) or error
                told = {"refused": str(refused), "exit_code": getattr(refused, "exit_code", 1)}
        told = team.agreed(told)
        if "refused" in told:
            raise refused or RefusedError(told["refused"], told["exit_code"])
        own_log = Path(told["folder"]) / f"process-{team.number}.log"
        if not team.is_first:
            output.tell(f"process {team.number} of {team.count}: the run is that of process 0; the log is {own_log}")
        log.keep(own_log, everything=not team.is_first)
        if config is None or folder is None:
            look_in(told["code"])
            config = Config.model_validate(told["config"] | {"train": told["config"]["train"] | {"trackers": []}})
            folder = stack.enter_context(
                RunFolder.create(Path(stack.enter_context(TemporaryDirectory(dir=watch.scratch()))) / "run")
            )
        _run(config, folder, dataset, team)


def _all_devices(arguments: list[str]) -> str:
    """The override that says how many the processes have. ConfigError where the user's says another number."""
    import jax

    from approxtrain.config import split

    all_of_them = f"parallel.devices={jax.device_count()}"
    given = [override for override in split(arguments)[1] if override.startswith("parallel.devices=")]
    if given and given[-1] != all_of_them:
        raise ConfigError(
            f"`{given[-1]}`: the {jax.process_count()} processes have {jax.device_count()} devices, and all of them "
            "share each batch: leave it out."
        )
    return all_of_them


def _opened(
    arguments: list[str], out: Path | None, resume: Path | None, dry_run: bool = False
) -> tuple[Config, RunFolder, ImageSet | None]:
    """The run that is asked for, a new one or an earlier one, in its folder, which is locked."""
    from approxtrain.config import split

    _checked(arguments, out, resume, dry_run)
    if resume is None:
        return _new(_loaded(arguments), out)
    return *_earlier(resume, split(arguments)[1]), None


def _checked(arguments: list[str], out: Path | None, resume: Path | None, dry_run: bool = False) -> None:
    """ConfigError where the command contradicts itself, or its configuration is none."""
    from approxtrain.config import split

    if resume is None:
        _loaded(arguments)
    elif split(arguments)[0] is not None or out is not None or dry_run:
        raise ConfigError(
            "`--resume DIR` takes the configuration from the folder: give no preset, --out or --dry-run with it. "
            "train.epochs=N (longer), train.checkpoint_every=N, train.check=finite, train.verify_every=N, "
            "train.trackers=[…], data.dir=PATH and data.workers=N may be given."
        )


def _loaded(arguments: list[str]) -> Config:
    """The configuration; that of a run's folder comes with where the run had found the user's own code."""
    from approxtrain.config import load, split
    from approxtrain.models.target import look_in

    look_in(_code_of(arguments))
    return load(*split(arguments))


def _code_of(arguments: list[str]) -> list[str]:
    """The folders of the user's own code, where the configuration is that of a run."""
    from approxtrain.config import split
    from approxtrain.run import facts
    from approxtrain.run.folder import CHECKPOINTS, CONFIG

    source, _ = split(arguments)
    before = facts.latest(Path(source).parent / CHECKPOINTS) if source and Path(source).name == CONFIG else None
    return [known["folder"] for known in ((before and before.origins) or {}).values() if "folder" in known]


def _new(config: Config, out: Path | None) -> tuple[Config, RunFolder, ImageSet]:
    from approxtrain.run.folder import RunFolder, default_path
    from approxtrain.training.trackers import refuse_missing
    from approxtrain.training.workload import Workload

    refuse_missing(config.train.trackers)
    _refuse_missing_devices(config)
    dataset = Workload.of(config).dataset  # all that can be wrong is found before a folder is made
    parts, train = (config.model.name, config.schedule.title), config.train
    return config, RunFolder.create(out or default_path(*parts, seed=train.seed, seeds=train.seeds)), dataset


def _refuse_missing_devices(config: Config) -> None:
    """ConfigError where it asks for more devices than there are; this starts jax, where it asks for several."""
    if config.parallel.devices > 1:
        from approxtrain.training.parallel import Replicas

        Replicas.of(config)


def _earlier(path: Path, overrides: list[str]) -> tuple[Config, RunFolder]:
    from approxtrain.config import load, plain, refuse_changes
    from approxtrain.run.folder import RunFolder

    folder = RunFolder.open(path)
    try:
        before, config = load(str(folder.config)), load(str(folder.config), overrides)
        refuse_changes(plain(before), plain(config))
    except BaseException:
        folder.close()
        raise
    return config, folder


def _run(config: Config, folder: RunFolder, dataset: ImageSet | None = None, team: Team | None = None) -> None:
    from approxtrain_cli.progress import Progress

    with Progress(folder.path) as progress:
        progress.say("starting jax …")
        from approxtrain.run import process
        from approxtrain.run.team import ALONE
        from approxtrain.training.loop import Run  # this imports jax, which takes seconds

        process.keep_programs(warn=progress.warn)
        summary = Run(config, folder, progress, dataset, team or ALONE).train()
    if summary:
        progress.conclude(summary)


def _show(config: Config) -> None:
    """What `train` would do, without doing it."""
    from approxtrain.config import dump
    from approxtrain.training.trackers import refuse_missing
    from approxtrain.training.workload import Workload

    refuse_missing(config.train.trackers)
    _refuse_missing_devices(config)
    work = Workload.of(config)
    model, images, epochs = work.model, work.dataset, config.train.epochs
    typer.echo(dump(config))
    typer.echo(f"# {model.name}: {len(model.layers)} convolutions, {len(work.schedule.columns)} distinct columns")
    for line in model.unreached:
        typer.echo(f"# {line}")
    typer.echo(f"# {images.name}: {len(images.train)} training and {len(images.validation)} validation images")
    dispatch = "host" if config.parallel.devices > 1 else config.schedule.dispatch
    for warning in (*work.without_effect(dispatch), *work.not_validated(), *work.left_over()):
        typer.echo(f"# warning: {warning}")
    typer.echo(f"# {epochs} epochs of {work.steps_per_epoch} steps = {work.total_steps} steps; nothing was trained")
