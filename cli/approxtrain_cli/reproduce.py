"""`approxtrain reproduce`: the runs that tables and figures of the paper need, those of them that are missing."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from approxtrain.errors import CheckpointError, ConfigError, InterruptedRun, LockedError
from approxtrain_cli import output
from approxtrain_cli.bench_kernel import device_text

if TYPE_CHECKING:
    from rich.console import Console

    from approxtrain.data import ImageSet
    from approxtrain.paper.planning import Budget, PlannedRun
    from approxtrain.run.archive import Archive

WIDTH = 120
"""A table is not cut off where the output is no terminal, or a narrow one."""


class BudgetName(StrEnum):
    SMOKE = "smoke"
    SHORT = "short"
    PAPER = "paper"


def reproduce(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET... [KEY=VALUE]...", help="table1 to table5, figure5 to figure8, all; overrides of all runs."
        ),
    ] = None,
    budget: Annotated[
        BudgetName, typer.Option(help="smoke: minutes on drawn images; short: hours on a CPU; paper: its epochs.")
    ] = BudgetName.SMOKE,
    seeds: Annotated[int | None, typer.Option(help="Runs of each row; the budget's where left out.", min=1)] = None,
    out: Annotated[Path, typer.Option(help="Folder of the archives, and below it of the runs.")] = Path("reproduction"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the runs and what they will take; train none.")
    ] = False,
) -> None:
    """Train what tables and figures of the paper need, as far as it is missing.

    What is there is recognised, what was interrupted goes on, and a run that has ended leaves one JSON in the folder.
    The same command again goes on; docs/reproduce.md has the rest.

    \b
    approxtrain reproduce all                             everything once, small, on drawn images
    approxtrain reproduce table2 figure5 --budget short data.dir=FOLDER
    approxtrain reproduce table5 --budget paper --seeds 3 --dry-run data.dir=FOLDER
    """
    from rich.console import Console

    from approxtrain.config import is_override
    from approxtrain.paper.planning import BUDGETS
    from approxtrain.training.signals import ending

    console = Console(file=output.lasting(), highlight=False, markup=False, soft_wrap=True)
    console.width = max(console.width, WIDTH)
    overrides = [argument for argument in arguments or [] if is_override(argument)]
    targets = [argument for argument in arguments or [] if not is_override(argument)]
    with ending(_go_on()):
        _reproduce(console, targets, overrides, BUDGETS[budget.value], seeds, out, dry_run)


def _reproduce(
    console: Console,
    targets: Sequence[str],
    overrides: Sequence[str],
    budget: Budget,
    seeds: int | None,
    out: Path,
    dry_run: bool,
) -> None:
    from approxtrain import data
    from approxtrain.paper import execute, experiments, planning
    from approxtrain_cli import reproduce_kernel

    # all that can be wrong with what was asked is found before jax starts
    if not targets:
        raise ConfigError(f"say what to reproduce: {', '.join(experiments.names())}, or all.")
    chosen = planning.chosen(targets)
    configurations = planning.configurations(experiments.rows(chosen), budget, seeds, overrides)
    dataset = data.load(configurations[0][1].data) if configurations else None
    planned = planning.runs(configurations, dataset) if dataset else []
    there = [execute.find(out, run) for run in planned]
    console.print(f"budget    {budget.name}: {budget.summary}")
    console.print("starting jax …")
    from approxtrain.run import process

    process.keep_programs(warn=output.warn)
    if dataset:
        _show(console, out, list(zip(planned, there, strict=True)), dataset)
    right = experiments.get("table1") not in chosen or reproduce_kernel.run(console, out, budget.rounds, dry_run)
    if dry_run:
        return
    if dataset:
        _train(console, out, [run for run in planned if not execute.archive_path(out, run).exists()], dataset)
        ended = [found.status for run in planned if (found := execute.find(out, run))]
        console.print(f"\narchives  {out}: {ended.count('finished')} finished, {ended.count('diverged')} diverged")
    console.print(f"report    approxtrain report --paper {shlex.quote(str(out))} --out report")
    if not right:
        raise typer.Exit(1)


def _show(console: Console, out: Path, runs: Sequence[tuple[PlannedRun, Archive | None]], dataset: ImageSet) -> None:
    """Print the runs with what there is of each and the time that the rest will take, and their total.

    Measures a few steps of each network that is to be trained, once for a folder.
    """
    from rich import box
    from rich.table import Table

    from approxtrain.paper import estimate, execute
    from approxtrain.run.environment import this_environment

    table = Table("run", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("epochs", justify="right")
    table.add_column("state", no_wrap=True)
    table.add_column("time", justify="right")
    here, total, missing = this_environment(), 0.0, 0
    for planned, found in runs:
        archived = execute.archive_path(out, planned).exists()
        if found and found.status != "unfinished":
            ended = found.message or f"finished, best {found.summary['best_accuracy']:.2%}"
            state, time = ended if archived else f"{ended}; to be archived", ""
        else:
            step = estimate.step_time(out / "runs", planned.config, here, console.print)
            done = len(found.epochs) if found else 0
            seconds = estimate.seconds(planned, step, done, len(dataset.validation))
            state, time = f"to go on: {found.message}" if found else "to run", _duration(seconds)
            total += seconds
        missing += not archived
        table.add_row(planned.name, str(planned.config.train.epochs), state, time)
    console.print(table)
    expected = f"{missing} of {len(runs)} runs, about {_duration(total)} on {device_text(here)}"
    console.print(f"expected  {expected}", style="bold")


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _train(console: Console, out: Path, todo: Sequence[PlannedRun], dataset: ImageSet) -> None:
    from approxtrain.paper.execute import execute, run_folder
    from approxtrain_cli.progress import Progress

    failed: list[CheckpointError] = []
    for number, planned in enumerate(todo, start=1):
        console.print(f"\nrun {number} of {len(todo)}  {planned.name}", style="bold")
        try:
            with Progress(run_folder(out, planned)) as progress:
                run = execute(planned, out, dataset, progress)
        except LockedError as error:
            console.print(f"skipped   {error}")
        except CheckpointError as error:
            console.print(f"failed    {error}")
            failed.append(error)
        except InterruptedRun as error:
            raise InterruptedRun(error.signal_number, _go_on()) from None
        else:
            accuracies = (run.summary.get(f"{kind}_accuracy", 0.0) for kind in ("best", "final"))
            finished = "finished  best {:.2%}, final {:.2%}".format(*accuracies)
            console.print(finished if run.status == "finished" else f"diverged  {run.message}")
    if failed:
        raise failed[0]


def _go_on() -> str:
    command = shlex.join(["approxtrain", *sys.argv[1:]])
    return f"Stopped by a signal; what was trained is saved. Go on with the same command: {command}"
