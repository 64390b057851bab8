"""The runs that stand in no table of the paper: of another protocol than the table's, or of no row of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from approxtrain.report.document import Cell, Table
from approxtrain.report.outcome import short_failure
from approxtrain.report.selection import Protocol, Selection
from approxtrain.report.speed_up import step_seconds
from approxtrain.report.wording import NOTHING, counted, decimal
from approxtrain.run.archive import Archive
from approxtrain.run.curves import schedule_title

HEADER = ("run", "network", "schedule", "seed", "images", "epochs", "best, %", "final, %", "step, ms", "why it is here")


def table(archives: Sequence[Archive], selections: Sequence[Selection]) -> Table | None:
    """A row a run; None where every run has its place in a table."""
    placed = {id(archive) for selection in selections for archive in selection.archives}
    left_out = {id(archive): selection for selection in reversed(selections) for archive in selection.left_out}
    rows, records = [], []
    for archive in archives:
        if id(archive) in placed:
            continue
        why = _why(archive, left_out.get(id(archive)))
        rows.append(_cells(archive, why))
        records.append(_record(archive, why))
    return Table("other-runs", HEADER, tuple(rows), tuple(records)) if rows else None


def _why(archive: Archive, selection: Selection | None) -> str:
    if selection is None:
        return "no row of the paper"
    own, chosen = Protocol.of(archive), selection.protocol
    if own == chosen:
        return "its row has a run of this seed already"
    title = selection.experiment.short
    if own.title != chosen.title:
        return f"{title} is of {chosen.data}, {counted(chosen.epochs, 'epoch')}"
    return f"{title} has runs with other settings, images or program"


def _cells(archive: Archive, why: str) -> tuple[Cell, ...]:
    record = _record(archive, why)
    if archive.status == "finished":
        accuracies = [Cell(f"{record[key]:.2f}") for key in ("best_accuracy", "final_accuracy")]
    else:
        accuracies = [Cell(short_failure(archive), "missing"), Cell(NOTHING)]
    step = Cell(decimal(record["step_ms"], 0))
    texts = [Cell(str(record[key])) for key in ("run", "model", "schedule", "seed", "data", "epochs")]
    return (*texts, *accuracies, step, Cell(why))


def _record(archive: Archive, why: str) -> dict[str, Any]:
    done = archive.status == "finished"
    return {
        "run": archive.name,
        "model": archive.config["model"]["name"],
        "schedule": schedule_title(archive.config["schedule"]),
        "seed": archive.seed,
        "data": Protocol.of(archive).data,
        "epochs": archive.config["train"]["epochs"],
        "status": archive.message or archive.status,
        "best_accuracy": 100 * archive.summary["best_accuracy"] if done else None,
        "final_accuracy": 100 * archive.summary["final_accuracy"] if done else None,
        "step_ms": None if (seconds := step_seconds(archive)) is None else 1e3 * seconds,
        "why": why,
    }
