"""`approxtrain schedule-tune`: a schedule for one's own network and machine, found by measuring."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from approxtrain.errors import ConfigError, suggestion
from approxtrain_cli import forking

if TYPE_CHECKING:
    from approxtrain.config import Config
    from approxtrain.training.workload import Workload
    from approxtrain.worth.choice import Measured, Phase
    from approxtrain.worth.forecast import Trace
    from approxtrain.worth.fork_file import ForkFile
    from approxtrain.worth.front import Prediction
    from approxtrain.worth.options import Look, Option

Arguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CONFIG] [KEY=VALUE]...", help="Preset or TOML file (default: quickstart), overrides."),
]
BudgetText = Annotated[
    str,
    typer.Option(
        "--budget", metavar="time=SHARE|loss=POINTS", help="The exact run's time, or accuracy that may be lost."
    ),
]
Out = Annotated[Path, typer.Option("--out", metavar="FILE.toml", help="The configuration that is written.")]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", metavar="NAME", help="A method to choose from; may be repeated. Default: pooled."),
]
Epochs = Annotated[int, typer.Option("--epochs", min=3, help="Of the exact run that is forked; at most the config's.")]
Steps = Annotated[
    int | None, typer.Option("--steps", min=4, help="Steps of a fork; at most an epoch's. Default: a fifth of one.")
]
Forked = Annotated[int, typer.Option("--forks", min=2, help="Forks of each kind, with seeds of their own.")]


class Budget(NamedTuple):
    """What is given: a share of the exact run's time, or points of accuracy."""

    kind: Literal["time", "loss"]
    value: float


def schedule_tune(
    arguments: Arguments = None,
    budget: BudgetText = "time=0.8",
    out: Out = Path("tuned.toml"),
    methods: Methods = None,
    epochs: Epochs = 4,
    steps: Steps = None,
    forks: Forked = 2,
    dry_run: forking.DryRun = False,
) -> None:
    """Find a schedule for a budget of time or of accuracy, and write it with what to expect of it.

    A short exact run is trained and forked on its way, as `approxtrain worth` does, into each method in each group of
    layers, smaller images and smaller batches: that says what each saves on this machine and what it costs in images.
    The best combination is written, beside what exact training on fewer images would come to. The same command goes on
    where it was stopped, and another budget takes no measuring.

    \b
    approxtrain schedule-tune resnet20-full --budget time=0.78 --out fast.toml
    approxtrain schedule-tune my.toml --budget loss=0.1 --out careful.toml --dry-run
    """
    from approxtrain.config import load, split

    wanted = _budget(budget)
    if out.suffix != ".toml":
        raise ConfigError(f"--out: {out.name!r} must end in .toml; the picture gets its stem.")
    if out.exists() and not dry_run:
        raise ConfigError(f"`{out}` is there already: choose another name, or take it away.")
    config = load(*split(arguments or []))
    typer.echo("starting jax …")
    from approxtrain.worth.short_run import shortened

    work = forking.exact(shortened(config, epochs))
    options = _options(work, methods or ["pooled"])
    arms = [option.arm for option in options]
    at = [0, work.config.train.epochs // 2]
    steps = steps or min(max(work.steps_per_epoch // 5, 4), work.steps_per_epoch)
    settings = forking.settings(work, arms, at, steps, forks)
    path = _folder(out, work, settings) / "tune.json"
    file = forking.measured(work, arms, settings, path, aligned=False, dry_run=dry_run)
    if file is not None:
        _conclude(config, work, options, file, wanted, out)


def _budget(text: str) -> Budget:
    kind, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if kind == "time" and 0 < value < 1:
        return Budget("time", value)
    if kind == "loss" and 0 <= value < 100:
        return Budget("loss", value)
    raise ConfigError(
        f"--budget (={text!r}) is a share of the exact run's time, such as time=0.8, or the points of accuracy that "
        "may be lost, such as loss=0.1."
    )


def _options(work: Workload, methods: list[str]) -> list[Option | Look]:
    from approxtrain.worth.options import looks_of, options_of
    from approxtrain_kernels.methods import all_methods

    for method in methods:
        if method not in all_methods():
            raise ConfigError(f"--method: no method is called {method!r}.{suggestion(method, all_methods())}")
    return [*options_of(work.model.layers, methods), *looks_of(work.model)]


def _folder(out: Path, work: Workload, settings: dict[str, Any]) -> Path:
    """Of the measurements: beside the file, one for each network and setting, whatever the budget."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return out.parent / f"tune-{work.model.name}-{digest[:8]}"


def _conclude(
    config: Config, work: Workload, options: list[Option | Look], file: ForkFile, budget: Budget, out: Path
) -> None:
    from approxtrain.run.environment import this_environment
    from approxtrain.worth import choice, forecast, front

    epochs = work.config.train.epochs
    phases = choice.phases_around([epoch / epochs for epoch in file.settings["at"]])
    measured = choice.measured(options, file.forks, file.more["times"])
    trace = forecast.trace(file.forks, (work.total_steps, file.more["exact_accuracy"]), config.train.epochs / epochs)
    if trace is None:
        raise ConfigError("More images brought the run no accuracy, so that nothing can be predicted: more --epochs.")
    found = front.front(measured, phases, trace)
    chosen = _chosen(measured, phases, trace, budget)
    _write(config, chosen, trace, out)
    front.draw(found, chosen, trace, f"{config.model.name} · {config.train.epochs} epochs", out.with_suffix(".png"))
    file.write(
        measured=[each._asdict() | {"option": each.option.name} for each in measured],
        front=[each.as_json() for each in found],
        environment=this_environment(),
    )
    _tell(measured, chosen, trace, out)


def _chosen(measured: list[Measured], phases: tuple[Phase, ...], trace: Trace, budget: Budget) -> Prediction:
    from approxtrain.worth import choice, front

    if budget.kind == "loss":
        return front.predicted(choice.fastest(measured, phases, trace.images(budget.value)), trace)
    plan = choice.cheapest(measured, phases, budget.value)
    if plan is None:
        least = choice.fastest(measured, phases, 0.0).time
        raise ConfigError(
            f"--budget time={budget.value:g}: the fastest schedule of these methods takes {least:.2f} of the exact "
            "run's time, since the first 3 % and the last 20 % stay exact. Allow more time, or give other methods."
        )
    return front.predicted(plan, trace)


def _write(config: Config, chosen: Prediction, trace: Trace, out: Path) -> None:
    from approxtrain import disk
    from approxtrain.config import dump

    images, low, high = chosen.images
    head = (
        f"# Found by `approxtrain schedule-tune`. Predicted, and no more than that:\n"
        f"# time      {chosen.plan.time:.2f} of the exact run's\n"
        f"# worth     {images:.2f} of the images ({low:.2f} to {high:.2f})\n"
        f"# accuracy  {chosen.drop.text} against {100 - trace.error:.1f} % of the exact run\n\n"
    )
    disk.write(out, head + dump(config.model_copy(update={"schedule": chosen.plan.schedule()})))


def _tell(measured: list[Measured], chosen: Prediction, trace: Trace, out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from approxtrain.worth import front

    phases = [f"{phase.begin:.0%} to {phase.end:.0%}" for phase in chosen.plan.phases]
    table = Table("option", "time", *phases, box=None)
    for each in measured:
        used = {part.phase: part.thinned for part in chosen.plan.parts if part.measured is each}
        marks = [
            f"*{'' if used[phase] == 1 else f'/{used[phase]}'}" if phase in used else "" for phase in range(len(phases))
        ]
        worths = zip(each.worth, each.error, marks, strict=True)
        table.add_row(each.option.name, f"{each.time:.2f}", *(f"{w:.2f} ± {e:.2f} {mark}" for w, e, mark in worths))
    Console(highlight=False).print(table)
    typer.echo("the worth in images, by share of the run; * is used, */2 at every second of its steps")
    images, low, high = chosen.images
    typer.echo(
        f"chosen    {chosen.plan.time:.2f} of the time, worth {images:.2f} ({low:.2f} to {high:.2f}) of the images"
    )
    typer.echo(f"expected  {chosen.drop.text} against the exact run's {100 - trace.error:.1f} %")
    typer.echo(f"verdict   {front.verdict(chosen, trace)}")
    typer.echo(f"written   {out}, {out.with_suffix('.png')}; train it: approxtrain train {quote(str(out))}")
