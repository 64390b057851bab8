"""The runs of a reproduction as a table: what there is of each, and what the rest will take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from approxtrain_cli.bench_kernel import device_text

if TYPE_CHECKING:
    from rich.console import Console

    from approxtrain.data import Dataset
    from approxtrain.paper.planning import PlannedRun
    from approxtrain.run.archive import Archive


def show(console: Console, out: Path, runs: Sequence[tuple[PlannedRun, Archive | None]], dataset: Dataset) -> None:
    """Print the runs with what there is of each, and their total.

    Measures a few steps of each network that is to be trained, once for a folder.
    """
    from rich import box
    from rich.table import Table

    from approxtrain.paper import estimate, stored
    from approxtrain.run.environment import this_environment

    table = Table("run", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("epochs", justify="right")
    table.add_column("state", no_wrap=True)
    table.add_column("time", justify="right")
    here, total, missing = this_environment(), 0.0, 0
    for planned, found in runs:
        time, archived = "", stored.archive_path(out, planned).exists()
        if found is None or found.status == "unfinished":
            step = estimate.step_time(out / "runs", planned.config, here, console.print)
            done = len(found.epochs) if found else 0
            seconds = estimate.seconds(planned, step, done, len(dataset.test_labels))
            time, total = duration(seconds), total + seconds
        missing += not archived
        table.add_row(planned.name, str(planned.config.train.epochs), _state(found, archived), time)
    console.print(table)
    expected = f"{missing} of {len(runs)} runs, about {duration(total)} on {device_text(here)}"
    console.print(f"expected  {expected}", style="bold")


def duration(seconds: float) -> str:
    """ "40 s", "12 min", "3 h 20 min", "4 days" """
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 60 * 72 else f"{minutes / 60 / 24:.0f} days"


def _state(found: Archive | None, archived: bool) -> str:
    if found is None:
        return "to run"
    if found.status == "unfinished":
        return f"to go on: {found.message}"
    ended = found.message or f"finished, best {found.summary['best_accuracy']:.2%}"
    return ended if archived else f"{ended}; to be archived"
