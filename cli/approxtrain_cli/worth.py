"""`approxtrain worth`: how many images of exact training the steps of schedules replace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from approxtrain.errors import ConfigError, suggestion
from approxtrain_cli import forking

if TYPE_CHECKING:
    from rich.table import Table

    from approxtrain.config import Config
    from approxtrain.worth.alignment import Alignment
    from approxtrain.worth.fork_file import ForkFile
    from approxtrain.worth.forks import Arm
    from approxtrain.worth.shares import Row

Arguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CONFIG]... [KEY=VALUE]...", help="Presets or TOML files of one model; overrides of all."),
]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", metavar="NAME", help="Also this method in every layer but the first; may be repeated."),
]
At = Annotated[int, typer.Option("--checkpoints", min=1, help="After how many epochs of the exact run it is forked.")]
Steps = Annotated[int | None, typer.Option("--steps", min=4, help="Steps of a fork; at most an epoch's. Default: 200.")]
Forked = Annotated[int, typer.Option("--forks", min=1, help="Forks of each kind, with seeds of their own.")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder of the exact run, the forks and the picture.")]


def worth(
    arguments: Arguments = None,
    methods: Methods = None,
    checkpoints: At = 5,
    steps: Steps = None,
    forks: Forked = 3,
    out: Out = None,
    dry_run: forking.DryRun = False,
) -> None:
    """Measure how many images of exact training the steps of a schedule replace.

    An exact run is trained, and forked after several of its epochs: into the schedules, and into exact steps on a half,
    three quarters and all of the images. A schedule that saves a fifth of the time should be worth more than four
    fifths of the images: else training on fewer images saves the same. The same command goes on where it was stopped.

    \b
    approxtrain worth cnn2-approx data.name=shapes train.epochs=4 --method pooled --dry-run
    approxtrain worth resnet20-schedule1-approx --method pooled --forks 5 --out worth
    """
    configs = _configs(arguments or [])
    typer.echo("starting jax …")
    from approxtrain.worth.forks import epochs_to_fork

    work = forking.exact(configs[0])
    arms = _arms(configs, methods or [])
    at = epochs_to_fork(work.config.train.epochs, checkpoints)
    settings = forking.settings(work, arms, at, steps or min(200, work.steps_per_epoch), forks)
    folder = out or Path("runs") / f"worth-{work.model.name}"
    file = forking.measured(work, arms, settings, folder / "worth.json", dry_run=dry_run)
    if file is not None:
        _conclude(work.config, file, folder)


def _conclude(config: Config, file: ForkFile, out: Path) -> None:
    from rich.console import Console

    from approxtrain.run.environment import this_environment
    from approxtrain.worth import picture, shares

    rows = shares.rows(file.forks, file.more["times"])
    file.write(rows=[row.as_json() for row in rows], environment=this_environment())
    for table in (_table(rows), _alignments(file.alignments)):
        Console(highlight=False).print(table)
    data, count = config.data.name, file.settings["seeds"]
    title = f"{config.model.name} · data: {data} · forks of {file.settings['steps']} steps × {count} seeds"
    picture.draw(rows, title, out / "worth.png")
    typer.echo(f"written   {out / 'worth.json'}, {out / 'worth.png'}")


def _table(rows: list[Row]) -> Table:
    from rich.table import Table

    from approxtrain.worth.shares import verdict

    table = Table("schedule", "after epoch", "loss", "worth, in images", "time", "held against fewer images", box=None)
    for row in rows:
        when = "all" if row.epoch is None else str(row.epoch)
        share = "–" if row.worth is None else row.worth.text
        table.add_row(row.arm, when, f"{row.loss:.4f}", share, f"{row.time:.2f}", verdict(row))
    return table


def _alignments(found: list[Alignment]) -> Table:
    from rich.table import Table

    table = Table("method", "alignment, mean of layers and epochs", "lowest", box=None)
    for method in dict.fromkeys(each.method for each in found):
        of_method = [each for each in found if each.method == method]
        lowest = min(of_method, key=lambda each: each.alignment)
        mean = sum(each.alignment for each in of_method) / len(of_method)
        where = f"{lowest.alignment:.2f} (layer {lowest.layer} after epoch {lowest.epoch})"
        table.add_row(method, f"{mean:.2f}", where)
    return table


def _configs(arguments: list[str]) -> list[Config]:
    from approxtrain.config import DEFAULT_PRESET, is_override, load

    overrides = [argument for argument in arguments if is_override(argument)]
    sources = [argument for argument in arguments if not is_override(argument)] or [DEFAULT_PRESET]
    configs = [load(source, overrides) for source in sources]
    first = configs[0]
    for source, config in zip(sources, configs, strict=True):
        if differing := [name for name in ("model", "data", "train", "optimizer") if _differ(config, first, name)]:
            raise ConfigError(
                f"`{source}` differs from `{sources[0]}` in [{differing[0]}], and all forks are of one run: give "
                "configurations that differ in their schedule alone, or overrides that make them equal."
            )
    return configs


def _differ(config: Config, other: Config, section: str) -> bool:
    return getattr(config, section) != getattr(other, section)


def _arms(configs: list[Config], methods: list[str]) -> list[Arm]:
    from approxtrain.schedule import ScheduleConfig
    from approxtrain.worth.forks import Arm
    from approxtrain_kernels.methods import all_methods

    if any(config.schedule.bypass for config in configs):
        raise ConfigError(
            "`schedule.bypass`: forks begin with blocks that were trained, and these cannot be left out: only whole "
            "runs can say what it is worth."
        )
    schedules = [config.schedule for config in configs]
    wanted: dict[str, ScheduleConfig] = {}
    for each in schedules:
        if each.name == "full" and not each.image_sizes and not each.image_shares:
            continue
        if wanted.setdefault(each.title, each) != each:
            raise ConfigError(
                f"Two schedules are both called `{each.title}` here, and could not be told apart: measure them one at "
                "a time, each with an --out of its own."
            )
    for method in methods:
        if method not in all_methods():
            raise ConfigError(f"--method: no method is called {method!r}.{suggestion(method, all_methods())}")
        rule = {"method": method, "layers": {"start": 2}}
        wanted[f"{method} from layer 2"] = ScheduleConfig.model_validate({"rules": [rule]})
    if not wanted:
        raise ConfigError("There is nothing to measure: give a configuration with a schedule, or --method NAME.")
    return [Arm.of(name, schedule) for name, schedule in wanted.items()]
