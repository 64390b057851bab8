"""What the runs of a row came to, held against the exact runs with the same seeds and against the paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from approxtrain.paper import experiments
from approxtrain.report import speed_up
from approxtrain.report.estimates import NORMAL, Estimate, binomial_sd, columns, estimate, paired
from approxtrain.report.inputs import BenchFile
from approxtrain.report.selection import Protocol, RowRuns, Selection, short_failure, why_left_out
from approxtrain.report.speed_up import SpeedUp
from approxtrain.run.archive import Archive
from approxtrain.run.curves import schedule_title

KINDS = ("best", "final")
"""The paper's rule: the best validation accuracy of the run; and that after its last step."""
JUDGED = ("agrees", "differs", "inconclusive", "not run")
MARGIN = 1.0
"""Points: two differences that could be further apart than this and still look alike are not called equal."""


class Verdict(NamedTuple):
    word: str
    """One of JUDGED, "reference" or "not in the paper"."""
    why: str = ""


@dataclass(frozen=True)
class RowResult:
    """A row of a table in numbers. Accuracies in percent, differences in points, None where there is no run for it."""

    protocol: Protocol
    runs: RowRuns
    accuracy: dict[str, Estimate | None]
    """One for each of KINDS."""
    difference: dict[str, Estimate | None]
    """To `full`, paired by seed; one for each of KINDS, None for `full` itself."""
    paper_difference: float | None
    verdict: Verdict
    speed_up: SpeedUp | None
    bound: float
    seconds: Estimate | None
    """Training and compiling of one run."""
    above_smaller: Estimate | None
    """Its best accuracy above that of ResNet-14, paired by seed; None of ResNet-14 itself."""
    step_over_smaller: Estimate | None
    """Its step over ResNet-14's."""

    @property
    def name(self) -> str:
        """What the tables call the row, with its schedule where there are several; ours are marked."""
        row = self.runs.row
        return ", ".join(filter(None, (row.group, row.label))) + (" (ours)" if row.ours else "")

    @property
    def record(self) -> dict[str, Any]:
        """The row in the columns of a CSV."""
        row = self.runs.row
        percent, source = self.speed_up or (None, None)
        return {
            "row": row.name,
            "label": self.name,
            "data": self.protocol.data,
            "epochs": self.protocol.train["epochs"],
            "seeds": " ".join(map(str, self.runs.finished)),
            "failed": self.runs.failures,
            "paper_accuracy": row.paper.accuracy,
            **columns("best_accuracy", self.accuracy["best"]),
            **columns("final_accuracy", self.accuracy["final"]),
            "paper_difference": self.paper_difference,
            **columns("difference", self.difference["best"]),
            **columns("final_difference", self.difference["final"]),
            "verdict": self.verdict.word,
            "why": self.verdict.why,
            "paper_speed_up": row.paper.speed_up,
            **columns("speed_up", percent),
            "speed_up_source": source,
            "largest_speed_up": self.bound,
            **columns("training_seconds", self.seconds),
            **columns("above_resnet14", self.above_smaller),
            **columns("step_over_resnet14", self.step_over_smaller),
        }


def results(selection: Selection, steps: Sequence[BenchFile]) -> list[RowResult]:
    """Every row of a table, in its order."""
    full, found = selection.full, []
    smaller = next((runs for runs in selection.rows if runs.row.model == "resnet14"), None)
    for runs in selection.rows:
        values = {kind: accuracies(runs, kind) for kind in KINDS}
        differences = {kind: None if runs is full else paired(values[kind], accuracies(full, kind)) for kind in KINDS}
        paper = runs.row.paper.difference(full.row.paper)
        seconds = [speed_up.training_seconds(archive) for archive in runs.finished.values()]
        base = smaller if runs is not smaller else None
        result = RowResult(
            protocol=selection.protocol,
            runs=runs,
            accuracy={kind: estimate(list(values[kind].values())) for kind in KINDS},
            difference=differences,
            paper_difference=paper,
            verdict=_verdict(selection, runs, differences["best"], paper),
            speed_up=None if runs is full else speed_up.speed_up(selection, runs, steps),
            bound=speed_up.bound(selection, runs.row),
            seconds=estimate([each for each in seconds if each is not None]),
            above_smaller=paired(values["best"], accuracies(base, "best")) if base else None,
            step_over_smaller=estimate(speed_up.step_ratios(runs, base)) if base else None,
        )
        found.append(result)
    return found


def accuracies(runs: RowRuns, kind: str) -> dict[int, float]:
    """Seed → validation accuracy in percent, of the runs that finished."""
    return {seed: 100 * archive.summary[f"{kind}_accuracy"] for seed, archive in runs.finished.items()}


def other_run(run: Archive, selections: Sequence[Selection]) -> dict[str, Any]:
    """A run that stands in no table, in the columns of a CSV."""
    done, seconds = run.status == "finished", speed_up.step_seconds(run)
    return {
        "run": run.name,
        "model": run.config["model"]["name"],
        "schedule": schedule_title(run.config["schedule"]),
        "seed": run.seed,
        "data": Protocol.of(run).data,
        "epochs": run.config["train"]["epochs"],
        "status": "finished" if done else short_failure(run),
        "best_accuracy": 100 * run.summary["best_accuracy"] if done else None,
        "final_accuracy": 100 * run.summary["final_accuracy"] if done else None,
        "step_ms": None if seconds is None else 1e3 * seconds,
        "why": why_left_out(run, selections),
    }


def judge(ours: Estimate, paper: float, full_accuracy: float) -> Verdict:
    """The verdict on a paired difference, in points, against the paper's.

    `full_accuracy`, in percent, is the paper's of `full` (ours where it states none): the noise of both of its
    accuracies is taken from it.
    """
    if ours.half_width is None:
        return Verdict("inconclusive", "one seed")
    apart, theirs = abs(ours.mean - paper), NORMAL * math.sqrt(2) * binomial_sd(full_accuracy)
    error = math.hypot(ours.half_width, theirs)
    word = "differs" if apart > error else "agrees" if error <= MARGIN else "inconclusive"
    return Verdict(word, f"{apart:.2f} points apart, error {error:.2f}, the paper's alone {theirs:.2f}")


def _verdict(selection: Selection, runs: RowRuns, difference: Estimate | None, paper: float | None) -> Verdict:
    full, real = selection.full, selection.protocol.real
    if runs is full:
        return Verdict("reference")
    if paper is None:
        return Verdict("not in the paper")
    if difference is None and not runs.diverged:
        return Verdict("not run", "no exact run with its seed" if runs.finished else "")
    if not real or selection.protocol.limit:
        return Verdict("inconclusive", "a trial on a few images" if real else "not CIFAR-10")
    if runs.diverged or difference is None:
        every = runs.diverged > 1 and not runs.finished
        return Verdict("differs" if every else "inconclusive", f"{runs.diverged} diverged")
    ours = sum(accuracies(full, "best").values()) / len(full.finished)
    return judge(difference, paper, experiments.stated_accuracy(full.row.name) or ours)
