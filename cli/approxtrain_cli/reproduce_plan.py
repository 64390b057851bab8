"""The runs of a reproduction as a table: what there is of each, and what the rest will take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from approxtrain_cli.bench_kernel import device_text

if TYPE_CHECKING:
    from rich.console import Console

    from approxtrain.data import Dataset
    from approxtrain.paper.planning import PlannedRun
    from approxtrain.paper.run_store import RunStore, StoredRun


class PlanLine(NamedTuple):
    """A run and what is left of it."""

    planned: PlannedRun
    stored: StoredRun | None
    seconds: float = 0.0
    """Expected from now on; 0 of a run that has ended."""
    source: str = ""
    """The runs or steps that the seconds are estimated from."""

    @property
    def archived(self) -> bool:
        return self.stored is not None and self.stored.ended and self.stored.folder is None

    @property
    def state(self) -> str:
        if self.stored is None:
            return "to run"
        archive = self.stored.archive
        if archive.status == "unfinished":
            return f"to go on: {archive.message}"
        ended = archive.message or f"finished, best {archive.summary['best_accuracy']:.2%}"
        return ended if self.archived else f"{ended}; to be archived"


def lines(
    console: Console, store: RunStore, planned: Sequence[PlannedRun], dataset: Dataset, here: dict[str, Any]
) -> list[PlanLine]:
    """A line for each run. Measures a few steps of each network that no run and no earlier measurement tells about."""
    from approxtrain.paper import estimate, execute

    archives = [stored.archive for stored in store.contents()]
    result = []
    for run, stored in zip(planned, store.find(planned), strict=True):
        if stored and stored.ended:
            result.append(PlanLine(run, stored))
            continue
        step = estimate.step(run, archives, estimate.read(store.runs), here)
        if step is None:
            console.print(f"measuring a step of {run.config.model.name} …")
            step = estimate.add(store.runs, run.config, *execute.measure_step(run.config), here)
        done = len(stored.archive.epochs) if stored else 0
        result.append(PlanLine(run, stored, estimate.seconds(run, step, done, len(dataset.test_labels)), step.source))
    return result


def show(console: Console, plan: Sequence[PlanLine], here: dict[str, Any]) -> None:
    """Print the runs with their total; nothing where there are none."""
    from rich import box
    from rich.table import Table

    if not plan:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("run", "epochs", "state", "time", "from"):
        table.add_column(heading, justify="right" if heading in ("epochs", "time") else "left", no_wrap=True)
    for line in plan:
        time = duration(line.seconds) if line.source else ""
        table.add_row(line.planned.name, str(line.planned.config.train.epochs), line.state, time, line.source)
    console.print(table)
    todo = [line.seconds for line in plan if not line.archived]
    expected = f"{len(todo)} of {len(plan)} runs, about {duration(sum(todo))} on {device_text(here)}"
    console.print(f"expected  {expected}", style="bold")


def duration(seconds: float) -> str:
    """ "40 s", "12 min", "3 h 20 min", "4 days" """
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 60 * 72 else f"{minutes / 60 / 24:.0f} days"
