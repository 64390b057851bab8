"""The runs of a reproduction as a table: what there is of each, and what the rest will take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from approxtrain_cli.bench_kernel import device_text

if TYPE_CHECKING:
    from rich.console import Console

    from approxtrain.config import Config
    from approxtrain.data import Dataset
    from approxtrain.paper.estimate import Step
    from approxtrain.paper.runs import Planned
    from approxtrain.paper.store import Found, Store


@dataclass(frozen=True)
class Line:
    """A run and what is left of it."""

    planned: Planned
    found: Found | None
    seconds: float
    """Expected from now on; 0 of a run that has ended."""
    source: str
    """What that is from."""

    @property
    def archived(self) -> bool:
        return self.found is not None and self.found.ended and self.found.folder is None

    @property
    def state(self) -> str:
        if self.found is None:
            return "to run"
        archive = self.found.archive
        if archive.status == "unfinished":
            return f"to go on: {archive.message}"
        ended = archive.message or f"finished, best {archive.summary['best_accuracy']:.2%}"
        return ended if self.archived else f"{ended}; to be archived"


def lines(
    console: Console, store: Store, planned: Sequence[Planned], dataset: Dataset, here: dict[str, Any]
) -> list[Line]:
    """A line for each run. Measures a few steps of each network that no run and no earlier measurement tells about."""
    from approxtrain.paper import estimate

    archives = [found.archive for found in store.contents()]
    result = []
    for each, found in zip(planned, store.find(planned), strict=True):
        if found and found.ended:
            result.append(Line(each, found, 0.0, ""))
            continue
        step = estimate.step(each, archives, estimate.read(store.runs), here)
        step = step or _measure(console, store, each.config, here)
        done = len(found.archive.epochs) if found else 0
        left = estimate.seconds(each, step, done, len(dataset.test_labels))
        result.append(Line(each, found, left, step.source))
    return result


def show(console: Console, found: Sequence[Line], here: dict[str, Any]) -> None:
    """Print them with their total; nothing where there are none."""
    from rich import box
    from rich.table import Table

    if not found:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("run", "epochs", "state", "time", "from"):
        table.add_column(heading, justify="right" if heading in ("epochs", "time") else "left", no_wrap=True)
    for line in found:
        epochs = str(line.planned.config.train.epochs)
        time = duration(line.seconds) if line.source else ""
        table.add_row(line.planned.name, epochs, line.state, time, line.source)
    console.print(table)
    todo = [line for line in found if not line.archived]
    total = sum(line.seconds for line in todo)
    console.print(
        f"expected  {len(todo)} of {len(found)} runs, about {duration(total)} on {device_text(here)}", style="bold"
    )


def duration(seconds: float) -> str:
    """ "40 s", "12 min", "3 h 20 min", "4 days" """
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 60 * 72 else f"{minutes / 60 / 24:.0f} days"


def _measure(console: Console, store: Store, config: Config, here: dict[str, Any]) -> Step:
    from approxtrain.paper import estimate, measure

    console.print(f"measuring a step of {config.model.name} …")
    step, compiling = measure.step(config)
    return estimate.add(store.runs, config, step, compiling, here)
