"""The runs that stand in no table of the paper: of another protocol than the table's, or of no row of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from approxtrain.report.row_results import short_failure
from approxtrain.report.selection import Protocol, Selection
from approxtrain.report.speed_up import step_seconds
from approxtrain.run.archive import Archive
from approxtrain.run.curves import schedule_title


class OtherRun(NamedTuple):
    archive: Archive
    rival: Selection | None
    """The first table or figure that has its row; None where none has."""

    @property
    def record(self) -> dict[str, Any]:
        """The run in the columns of a CSV."""
        run, config, seconds = self.archive, self.archive.config, step_seconds(self.archive)
        done = run.status == "finished"
        return {
            "run": run.name,
            "model": config["model"]["name"],
            "schedule": schedule_title(config["schedule"]),
            "seed": run.seed,
            "data": Protocol.of(run).data,
            "epochs": config["train"]["epochs"],
            "status": "finished" if done else short_failure(run),
            "best_accuracy": 100 * run.summary["best_accuracy"] if done else None,
            "final_accuracy": 100 * run.summary["final_accuracy"] if done else None,
            "step_ms": None if seconds is None else 1e3 * seconds,
            "why": self.why,
        }

    @property
    def why(self) -> str:
        """Why it stands in no table."""
        if self.rival is None:
            return "no row of the paper"
        protocol, chosen, table = Protocol.of(self.archive), self.rival.protocol, self.rival.experiment.short
        if protocol == chosen:
            return "its row has a run of this seed already"
        title = chosen.title
        return (
            f"{table} is of {title}"
            if protocol.title != title
            else f"{table} has runs with other settings, images or program"
        )


def left_over(archives: Sequence[Archive], selections: Sequence[Selection]) -> list[OtherRun]:
    """The runs that stand in no row."""
    placed = {id(archive) for selection in selections for archive in selection.archives}
    rivals = {id(archive): selection for selection in reversed(selections) for archive in selection.left_out}
    return [OtherRun(archive, rivals.get(id(archive))) for archive in archives if id(archive) not in placed]
