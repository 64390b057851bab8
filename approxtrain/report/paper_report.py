"""Runs in the paper's tables and figures: which stand in their rows, and what they came to, held against the exact runs
with the same seeds and against the paper. What is said of it, and in what order, is in paper.md.jinja."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any, NamedTuple

from approxtrain import models
from approxtrain.paper import experiments
from approxtrain.paper.experiments import Experiment, PaperRow
from approxtrain.report import figures, table1
from approxtrain.report.document import Document, Report
from approxtrain.report.estimates import NORMAL, Estimate, binomial_sd, columns, estimate
from approxtrain.report.inputs import BenchFile, Inputs
from approxtrain.report.selection import Protocol, RowRuns, Selection, by_seed
from approxtrain.report.timing import RUNS, elapsed, speed_up, step_ratios
from approxtrain.run.archive import Archive
from approxtrain.schedule.cost import layer_flops, phase_costs

JUDGED = ("agrees", "differs", "inconclusive", "not run")
MARGIN = 1.0
"""Points: two differences that could be further apart than this and still look alike are not called equal."""


@dataclass(frozen=True)
class PaperSelection(Selection):
    """The runs of a table or figure, its rows in the order of the experiment's."""

    experiment: Experiment

    @property
    def paper_epochs(self) -> int:
        """What the paper trained this network for; the presets hold it."""
        return self.experiment.baseline.config().train.epochs


class Verdict(NamedTuple):
    word: str
    """One of JUDGED, "reference" or "not in the paper"."""
    why: str = ""


@dataclass(frozen=True)
class RowResult:
    """A row of a table in numbers."""

    protocol: Protocol
    row: PaperRow
    runs: RowRuns
    numbers: dict[str, Estimate | None]
    """Those of `RowRuns.numbers`; the speed-up in percent; seconds of training and compiling; how far the best accuracy
    is above ResNet-14's, and the step over ResNet-14's: None where there is no run for it."""
    speed_up_source: str | None
    paper_difference: float | None
    verdict: Verdict
    bound: float

    @property
    def name(self) -> str:
        """What the tables call the row, with its schedule where there are several; ours are marked."""
        return ", ".join(filter(None, (self.row.group, self.row.label))) + (" (ours)" if self.row.ours else "")

    @property
    def record(self) -> dict[str, Any]:
        """The row in the columns of a CSV."""
        return {
            "row": self.row.name,
            "label": self.name,
            "data": self.protocol.data,
            "epochs": self.protocol.train["epochs"],
            **self.runs.record,
            "paper_accuracy": self.row.paper.accuracy,
            "paper_difference": self.paper_difference,
            "verdict": self.verdict.word,
            "why": self.verdict.why,
            "paper_speed_up": self.row.paper.speed_up,
            "speed_up_source": self.speed_up_source,
            "largest_speed_up": self.bound,
            **columns(self.numbers),
        }


def compose(inputs: Inputs) -> Report:
    """All that can be said of what was given beside the paper."""
    runs = by_row(inputs.archives)
    every = [experiments.get(name) for name in experiments.names() if name != "table1"]
    selections = [found for experiment in every if (found := select(experiment, runs))]
    tables = [each for each in selections if each.experiment.kind == "table"]
    judged = [(each, results(each, inputs.steps)) for each in tables]
    rows = [(table, result) for table, results in judged for result in results]
    by_verdict = {word: [each for each in rows if each[1].verdict.word == word] for word in JUDGED}
    placed = list({id(archive): archive for each in selections for archive in each.archives}.values())
    shown = placed or inputs.archives
    fullest: dict[str, PaperSelection] = {}  # for each network the table that has most of its runs
    for table in tables:
        best = max(fullest.get(table.model, table), table, key=lambda each: len(each.archives))
        fullest[table.model] = replace(best, name=table.model, title=table.model)
    benches = [*inputs.steps, *inputs.kernels]
    # a row may stand in several tables
    of_rows = dict.fromkeys(each for table in selections for row in table.rows for each in row.left_out)
    repeated = [*inputs.left_out, *of_rows]
    context = {
        "figures": figures,
        "table1": table1,
        "MARGIN": MARGIN,
        "protocols": [Protocol.of(archive) for archive in shown],
        "environments": [one.environment for one in (*shown, *benches)],
        "benches": benches,
        "kernels": [bench for bench in inputs.kernels if table1.is_table1(bench)],
        "judged": judged,
        "selections": selections,
        "networks": list(fullest.values()),
        "left_out": repeated,
        "elsewhere": len(inputs.archives) - len(placed) - len(of_rows),
        "by_verdict": by_verdict,
        "not_given": [each for each in every if each.kind == "table" and all(each != one.experiment for one in tables)],
        "RUNS": RUNS,
    }
    verdicts = {word: len(found) for word, found in by_verdict.items()}
    rows_said = ", ".join(f"{count} {word}" for word, count in verdicts.items())
    said = [f"{len(placed)} of {len(inputs.archives)} runs in the paper's rows", f"rows: {rows_said}"]
    said += [f"left out: `{each.name}`, for which `{each.taken}` was taken (seed {each.seed})" for each in repeated]
    facts = {"protocol": {each.name: each.protocol.values for each in selections}, "verdicts": verdicts}
    facts |= {"left_out": [asdict(each) for each in repeated]}
    return Report(Document("paper.md.jinja", context), "\n".join(said), placed, facts)


def by_row(archives: Sequence[Archive]) -> dict[str, list[Archive]]:
    """The archives that are runs of a row of the paper's or of ours, by the row's name."""
    found: dict[str, list[Archive]] = {}
    for archive in archives:
        if row := experiments.row_of(archive.config):
            found.setdefault(row.name, []).append(archive)
    return found


def select(experiment: Experiment, runs: Mapping[str, Sequence[Archive]]) -> PaperSelection | None:
    """The runs for an experiment out of `by_row`; None where no run is of one of its rows.

    Of several protocols: CIFAR-10's images before others, then the one that fills most places, then the longest.
    """
    candidates = [(run, Protocol.of(run)) for row in experiment.rows for run in runs.get(row.name, ())]
    if not candidates:
        return None
    filled = Counter(protocol for run, protocol in candidates if run.status == "finished")
    chosen = max((each[1] for each in candidates), key=lambda p: (p.real, filled[p], p.train["epochs"], p.key))
    rows = []
    for row in experiment.rows:
        found = by_seed(run for run in runs.get(row.name, ()) if Protocol.of(run) == chosen)
        rows.append(RowRuns(row.name, row.short, row.method, row.group, *found))
    return PaperSelection(experiment.name, experiment.title, experiment.model, chosen, rows, experiment)


def results(selection: PaperSelection, steps: Sequence[BenchFile]) -> list[RowResult]:
    """Every row of a table, in its order."""
    full, found = selection.full, []
    smaller = next((runs for runs in selection.rows if runs.name == "resnet14-full"), None)
    for row, runs in zip(selection.experiment.rows, selection.rows, strict=True):
        numbers, paper = runs.numbers(full), row.paper.difference(selection.experiment.baseline.paper)
        # of another network the exact step is in another file, and was not interleaved
        titles = _titles(row) if row.model == selection.model else []
        percent, source = (None, None) if runs is full else speed_up(selection, runs, titles, steps)
        seconds = [taken for run in runs.finished.values() if (taken := _seconds(run))]
        base = smaller if runs is not smaller else None
        numbers |= {
            "speed_up": percent,
            "training_seconds": estimate(seconds),
            "above_resnet14": runs.numbers(base)["difference"],
            "step_over_resnet14": estimate(step_ratios(runs, base)) if base else None,
        }
        verdict = _verdict(selection, runs, numbers["difference"], paper)
        most = bound(selection, row)
        found.append(RowResult(selection.protocol, row, runs, numbers, source, paper, verdict, most))
    return found


def bound(selection: PaperSelection, row: PaperRow) -> float:
    """Percent of the convolutions' operations that the row leaves out, its replaced weight gradients counted free."""
    layers, full = models.get(row.model).layers, models.get(selection.model).layers
    batch = selection.protocol.train["batch_size"]
    saved = 1 - sum(layer_flops(layers, batch)) / sum(layer_flops(full, batch))  # by a smaller network
    return 100 * (saved + (1 - saved) * phase_costs(row.cells, layers, batch)[-1].largest_speed_up)


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


def _verdict(selection: PaperSelection, runs: RowRuns, difference: Estimate | None, paper: float | None) -> Verdict:
    full, real = selection.full, selection.protocol.real
    diverged = sum(run.status == "diverged" for run in runs.failed.values())
    if runs is full:
        return Verdict("reference")
    if paper is None:
        return Verdict("not in the paper")
    if difference is None and not diverged:
        return Verdict("not run", "no exact run with its seed" if runs.finished else "")
    if not real or selection.protocol.limit:
        return Verdict("inconclusive", "a trial on a few images" if real else "not CIFAR-10")
    if diverged or difference is None:
        return Verdict("differs" if diverged > 1 and not runs.finished else "inconclusive", f"{diverged} diverged")
    ours = fmean(full.accuracies("best").values())
    return judge(difference, paper, experiments.stated_accuracy(full.name) or ours)


def _titles(row: PaperRow) -> list[str]:
    """What `bench-step` calls the row's schedule: by title, or by preset, where it has rules.

    The paper's factor costs nothing: without it the schedule may stand in.
    """
    schedule = row.config().schedule
    if not schedule.name:
        return [row.name]
    return list(dict.fromkeys([schedule.title, schedule.model_copy(update={"params": {}}).title]))


def _seconds(run: Archive) -> float | None:
    """Of training and compiling; None where the time of an epoch is unknown."""
    times = list(elapsed(run).values())
    return times[-1] + run.summary.get("compile_seconds", 0.0) / run.summary.get("seeds", 1) if times else None
