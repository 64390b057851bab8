"""What the runs of a row came to, held against the paper and against the exact runs with the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from approxtrain.paper import experiments
from approxtrain.paper.experiments import Row
from approxtrain.report import speed_up
from approxtrain.report.inputs import Measured
from approxtrain.report.selection import RowRuns, Selection
from approxtrain.report.speed_up import SpeedUp
from approxtrain.report.statistics import Estimate, estimate, paired
from approxtrain.report.verdict import Verdict, judge
from approxtrain.run.archive import Archive

KINDS = ("best", "final")
"""The paper's rule: the best validation accuracy of the run; and that after its last step."""


@dataclass(frozen=True)
class Outcome:
    """A row of a table in numbers. Accuracies in percent, differences in points, None where there is no run for it."""

    row: Row
    runs: RowRuns
    accuracy: dict[str, Estimate | None]
    """Of each of KINDS."""
    difference: dict[str, Estimate | None]
    """To `full`, paired by seed; of each of KINDS."""
    paper_accuracy: float | None
    paper_difference: float | None
    verdict: Verdict
    speed_up: SpeedUp | None
    bound: float
    seconds: Estimate | None
    """Training and compiling of one run."""

    @property
    def name(self) -> str:
        """The row as the tables call it, with its schedule where there are several; ours are marked."""
        parts = [self.row.group, self.row.label]
        return ", ".join(part for part in parts if part) + (" (ours)" if self.row.ours else "")

    @property
    def failures(self) -> list[str]:
        """ "seed 1 diverged at step 812", for each run that did not finish."""
        return [f"seed {seed} {short_failure(archive)}" for seed, archive in sorted(self.runs.failed.items())]


def outcomes(selection: Selection, steps: Sequence[Measured]) -> list[Outcome]:
    """Every row of a table, in its order."""
    return [_outcome(selection, runs, steps) for runs in selection.rows]


def accuracies(runs: RowRuns, kind: str) -> dict[int, float]:
    """Seed → validation accuracy in percent, of the runs that finished."""
    return {seed: 100 * archive.summary[f"{kind}_accuracy"] for seed, archive in runs.finished.items()}


def paper_difference(selection: Selection, row: Row) -> float | None:
    """Points above the paper's `full`; negative where the paper lost accuracy."""
    full = selection.experiment.baseline.paper
    if row.paper is None or full is None:
        return None
    if row.paper.accuracy_loss is not None:
        return -row.paper.accuracy_loss + 0.0
    if row.paper.accuracy is None or full.accuracy is None:
        return None
    return row.paper.accuracy - full.accuracy


def _outcome(selection: Selection, runs: RowRuns, steps: Sequence[Measured]) -> Outcome:
    row, full = runs.row, selection.full
    values = {kind: accuracies(runs, kind) for kind in KINDS}
    baseline = row.name == full.row.name
    seconds = [speed_up.training_seconds(archive) for archive in runs.finished.values()]
    difference = {kind: None if baseline else paired(values[kind], accuracies(full, kind)) for kind in KINDS}
    return Outcome(
        row=row,
        runs=runs,
        accuracy={kind: estimate(list(values[kind].values())) for kind in KINDS},
        difference=difference,
        paper_accuracy=None if row.paper is None else row.paper.accuracy,
        paper_difference=paper_difference(selection, row),
        verdict=_verdict(selection, runs, difference["best"]),
        speed_up=None if baseline else speed_up.speed_up(selection, runs, steps),
        bound=speed_up.bound(selection, row),
        seconds=estimate([each for each in seconds if each is not None]),
    )


def _verdict(selection: Selection, runs: RowRuns, difference: Estimate | None) -> Verdict:
    paper = paper_difference(selection, runs.row)
    if runs.row.name == selection.full.row.name:
        return Verdict("reference")
    if paper is None:
        return Verdict("not in the paper")
    if difference is None and not runs.diverged:
        return Verdict("not run", "no exact run with its seed" if runs.finished else "")
    if not selection.protocol.real or selection.protocol.limit:
        return Verdict("inconclusive", "a trial on a few images" if selection.protocol.real else "not CIFAR-10")
    if runs.diverged or difference is None:
        every = len(runs.diverged) > 1 and not runs.finished
        return Verdict("differs" if every else "inconclusive", f"{len(runs.diverged)} diverged")
    ours = estimate(list(accuracies(selection.full, "best").values()))
    assert ours is not None  # else there would be no difference
    return judge(difference, paper, _stated(selection.full.row) or ours.mean)


def _stated(row: Row) -> float | None:
    """The accuracy that the paper states for a run in any table: Table 3 has losses only, and Table 5 says of what."""
    every = [one for name in experiments.names() for one in experiments.get(name).rows if one.name == row.name]
    return next((one.paper.accuracy for one in every if one.paper and one.paper.accuracy), None)


def short_failure(archive: Archive) -> str:
    """The message without its detail: "diverged at step 812", "unfinished, 3 of 8 epochs"."""
    if archive.status == "diverged":
        return archive.message.partition(":")[0] or "diverged"
    return f"unfinished, {archive.message}" if archive.message else "unfinished"
