"""`approxtrain reproduce`: the runs that tables and figures of the paper need, those of them that are missing."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from approxtrain.errors import CheckpointError, ConfigError, InterruptedRun, LockedError

if TYPE_CHECKING:
    from rich.console import Console

    from approxtrain.data import Dataset
    from approxtrain.paper.budget import Budget
    from approxtrain.paper.runs import Planned
    from approxtrain.paper.store import Store
    from approxtrain_cli.reproduce_plan import Line

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

    from approxtrain.paper.budget import BUDGETS
    from approxtrain.training.signals import ending

    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.width = max(console.width, WIDTH)
    targets, overrides = _split(arguments or [])
    with ending(_go_on()):
        _Reproduction(console, targets, overrides, BUDGETS[budget.value], seeds, out, dry_run).run()


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """→ (targets, overrides)."""
    from approxtrain.config import is_override
    from approxtrain.paper import experiments

    overrides = [argument for argument in arguments if is_override(argument)]
    targets = [argument for argument in arguments if not is_override(argument)]
    if not targets:
        raise ConfigError(f"say what to reproduce: {', '.join(experiments.names())}, or all.")
    return targets, overrides


def _go_on() -> str:
    command = shlex.join(["approxtrain", *sys.argv[1:]])
    return f"Stopped by a signal; what was trained is saved. Go on with the same command: {command}"


@dataclass
class _Reproduction:
    """The command at work."""

    console: Console
    targets: list[str]
    overrides: list[str]
    budget: Budget
    seeds: int | None
    out: Path
    dry_run: bool

    def run(self) -> None:
        from approxtrain import data
        from approxtrain.paper import runs
        from approxtrain.paper.store import Store
        from approxtrain_cli import reproduce_kernel, reproduce_plan

        # all that can be wrong with what was asked is found before jax starts
        experiments = runs.chosen(self.targets)
        found = runs.configurations(runs.rows_of(experiments), self.budget, self.seeds, self.overrides)
        dataset = data.load(found[0][1].data) if found else None
        planned = runs.runs(found, dataset) if dataset else []
        store = Store(self.out)
        kernel = "table1" in {experiment.name for experiment in experiments}
        self.console.print(f"budget    {self.budget.name}: {self.budget.summary}")
        self.console.print("starting jax …")
        from approxtrain.run import programs, record

        programs.keep()
        here = record.environment()
        lines = reproduce_plan.lines(self.console, store, planned, dataset, here) if dataset else []
        reproduce_plan.show(self.console, lines, here)
        if kernel:
            reproduce_kernel.announce(self.console, self.out, self.budget.rounds)
        if self.dry_run:
            return
        right = reproduce_kernel.run(self.console, self.out, self.budget.rounds) if kernel else True
        if dataset:
            self._train(store, lines, dataset)
        self._conclude(store)
        if not right:
            raise typer.Exit(1)

    def _train(self, store: Store, lines: Sequence[Line], dataset: Dataset) -> None:
        todo = [line.planned for line in lines if not line.archived]
        failed: list[CheckpointError] = []
        for number, planned in enumerate(todo, start=1):
            self.console.print(f"\nrun {number} of {len(todo)}  {planned.name}", style="bold")
            try:
                self._one(store, planned, dataset)
            except LockedError as error:
                self.console.print(f"skipped   {error}")
            except CheckpointError as error:
                self.console.print(f"failed    {error}")
                failed.append(error)
            except InterruptedRun as error:
                raise InterruptedRun(error.signal_number, _go_on()) from None
        if failed:
            raise failed[0]

    def _one(self, store: Store, planned: Planned, dataset: Dataset) -> None:
        from approxtrain.paper.execute import execute
        from approxtrain_cli.progress import Progress

        with ExitStack() as stack:
            ended = execute(planned, store, dataset, lambda folder: stack.enter_context(Progress(folder)))
        if ended.status == "finished":
            best, final = ended.summary["best_accuracy"], ended.summary["final_accuracy"]
            self.console.print(f"finished  best {best:.2%}, final {final:.2%}")
        else:
            self.console.print(f"diverged  {ended.message}")

    def _conclude(self, store: Store) -> None:
        archives = [found.archive for found in store.contents() if found.folder is None]
        diverged = sum(archive.status == "diverged" for archive in archives)
        count = f"{len(archives) - diverged} finished, {diverged} diverged"
        self.console.print(f"\narchives  {self.out}: {count}")
        self.console.print(f"report    approxtrain report {shlex.quote(str(self.out))} --out report")
