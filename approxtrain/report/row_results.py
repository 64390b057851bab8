"""What the runs of a row came to, held against the exact runs with the same seeds and against the paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from approxtrain.paper import experiments
from approxtrain.paper.experiments import PaperRow
from approxtrain.report import speed_up
from approxtrain.report.estimates import NORMAL, Estimate, binomial_sd, columns, estimate, paired
from approxtrain.report.inputs import BenchFile
from approxtrain.report.selection import Protocol, RowRuns, Selection
from approxtrain.report.speed_up import SpeedUp
from approxtrain.run.archive import Archive

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

    @property
    def row(self) -> PaperRow:
        return self.runs.row

    @property
    def name(self) -> str:
        """What the tables call the row, with its schedule where there are several; ours are marked."""
        return ", ".join(filter(None, (self.row.group, self.row.label))) + (" (ours)" if self.row.ours else "")

    @property
    def failures(self) -> str:
        """ "seed 1 diverged at step 812", for each run that did not finish."""
        return "; ".join(f"seed {seed} {short_failure(archive)}" for seed, archive in self.runs.failed.items())

    @property
    def record(self) -> dict[str, Any]:
        """The row in the columns of a CSV."""
        value, low, high, n, source = self.speed_up or (None, None, None, 0, None)
        return {
            "row": self.row.name,
            "label": self.name,
            "data": self.protocol.data,
            "epochs": self.protocol.train["epochs"],
            "seeds": " ".join(map(str, self.runs.finished)),
            "failed": self.failures,
            "paper_accuracy": self.row.paper.accuracy,
            **columns("best_accuracy", self.accuracy["best"]),
            **columns("final_accuracy", self.accuracy["final"]),
            "paper_difference": self.paper_difference,
            **columns("difference", self.difference["best"]),
            **columns("final_difference", self.difference["final"]),
            "verdict": self.verdict.word,
            "why": self.verdict.why,
            "paper_speed_up": self.row.paper.speed_up,
            "speed_up": value,
            "speed_up_low": low,
            "speed_up_high": high,
            "speed_up_n": n,
            "speed_up_source": source,
            "largest_speed_up": self.bound,
            **columns("training_seconds", self.seconds),
        }


def results(selection: Selection, steps: Sequence[BenchFile]) -> list[RowResult]:
    """Every row of a table, in its order."""
    return [_result(selection, runs, steps) for runs in selection.rows]


def against_smaller(rows: Sequence[RowResult]) -> list[tuple[RowResult, Estimate, Estimate | None, dict[str, Any]]]:
    """The rows with a seed that ResNet-14 has as well: points of best accuracy above it, the step over its, as CSV."""
    smaller = next((result.runs for result in rows if result.row.model == "resnet14"), None)
    held = []
    if smaller is None:
        return held
    for result in rows:
        gain = paired(accuracies(result.runs, "best"), accuracies(smaller, "best"))
        if gain and result.runs is not smaller:
            step = estimate(speed_up.step_ratios(result.runs, smaller))
            record = {"row": result.row.name} | columns("accuracy_difference", gain) | columns("step_ratio", step)
            held.append((result, gain, step, record))
    return held


def accuracies(runs: RowRuns, kind: str) -> dict[int, float]:
    """Seed → validation accuracy in percent, of the runs that finished."""
    return {seed: 100 * archive.summary[f"{kind}_accuracy"] for seed, archive in runs.finished.items()}


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


def short_failure(archive: Archive) -> str:
    """The message without its detail: "diverged at step 812", "unfinished, 3 of 8 epochs"."""
    return archive.message.partition(":")[0] if archive.status == "diverged" else f"unfinished, {archive.message}"


def _result(selection: Selection, runs: RowRuns, steps: Sequence[BenchFile]) -> RowResult:
    full = selection.full
    values = {kind: accuracies(runs, kind) for kind in KINDS}
    difference = {kind: paired(values[kind], accuracies(full, kind)) if runs is not full else None for kind in KINDS}
    paper = runs.row.paper.difference(full.row.paper)
    seconds = [speed_up.training_seconds(archive) for archive in runs.finished.values()]
    return RowResult(
        protocol=selection.protocol,
        runs=runs,
        accuracy={kind: estimate(list(values[kind].values())) for kind in KINDS},
        difference=difference,
        paper_difference=paper,
        verdict=_verdict(selection, runs, difference["best"], paper),
        speed_up=speed_up.speed_up(selection, runs, steps) if runs is not full else None,
        bound=speed_up.bound(selection, runs.row),
        seconds=estimate([each for each in seconds if each is not None]),
    )


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
