"""What is drawn of a selection: loss and accuracy by epoch or by second, accuracy against training time, and how near
the approximated weight gradients are to the exact ones, from rows of probes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from approxtrain.report import drawing
from approxtrain.report.document import Picture
from approxtrain.report.drawing import Line, Panel
from approxtrain.report.estimates import estimate
from approxtrain.report.selection import RowRuns, Selection
from approxtrain.report.timing import elapsed, timed
from approxtrain_kernels.methods import all_methods

SECONDS = "training seconds"
TRAINING = (
    Panel("loss", "training loss", "train_loss"),
    Panel("accuracy", "validation accuracy", "validation_accuracy", percent=True),
)
BY_SECONDS = Panel("accuracy-seconds", "validation accuracy", "validation_accuracy", SECONDS, percent=True)
GRADIENTS = (
    Panel("cosine-layer", "cosine", "cosine", "layer"),
    Panel("cosine-epoch", "cosine over the run", "cosine"),
    Panel("norm-ratio-layer", "norm ratio", "norm_ratio", "layer"),
    Panel("sign-disagreement-layer", "sign disagreement", "sign_disagreement", "layer", percent=True),
    Panel("dead-planes-layer", "dead planes", "dead_planes", "layer", percent=True),
)
_MARKERS = ("o", "s", "^")
"""Of groups of rows: the paper's schedules 1 to 3."""


def training(selection: Selection, panels: Sequence[Panel]) -> list[Picture]:
    """These panels for each group of rows of which something was run; an epoch is at the mean seconds of its seeds.

    Where no run of a row finished, what was stopped is drawn as far as it came.
    """

    def line(runs: RowRuns) -> Line:
        stopped = "" if runs.finished or not runs.runs else " (stopped)"
        clocks = [times for run in timed(selection, runs).values() if (times := elapsed(run))]
        shared = set.intersection(*map(set, clocks)) if clocks else ()
        seconds = {epoch: {SECONDS: fmean(times[epoch] for times in clocks)} for epoch in shared}
        archives = (runs.finished or runs.runs).values()
        seeds = [[row | seconds.get(row["epoch"], {}) for row in archive.epochs] for archive in archives]
        return Line(runs.short + stopped, runs.method, [*seeds])

    return _by_group(selection, selection.name, selection.title, panels, line)


def gradients(selection: Selection) -> list[Picture]:
    """Five panels for each group of rows, of the rows that were probed."""
    zero = {name for name, method in all_methods().items() if not method.needs}

    def line(runs: RowRuns) -> Line:
        probes = [[row for row in run.probes if row["method"] not in zero] for run in runs.finished.values()]
        return Line(runs.short, runs.method, [rows for rows in probes if rows])

    return _by_group(selection, f"gradient-{selection.name}", selection.title, GRADIENTS, line)


def pareto(selection: Selection, *, intervals: bool) -> tuple[Picture | None, list[str]]:
    """Accuracy against training time, a point a row: who is on the front?

    → the rows that ran on the machine where most did, None if fewer than two; and those that only ran on others.
    Each has its 95 % interval, or the range of its seeds; a colour for each method, a marker for each group; of two
    rows of one method and group the second is hollow.
    """
    groups = _groups(selection)
    looks = drawing.looks([(runs.method, runs.group) for runs in selection.rows])
    canvas, axes = drawing.blank("best validation accuracy", "training time, s", percent=True)
    records: list[dict[str, Any]] = []
    elsewhere, named = [], set[str]()
    for runs, (colour, number) in zip(selection.rows, looks, strict=True):
        name = f"{runs.short}, {runs.group}" if runs.group else runs.short
        times = {seed: max(taken.values()) for seed, run in timed(selection, runs).items() if (taken := elapsed(run))}
        bests = [runs.accuracies("best")[seed] for seed in times]
        accuracy = estimate(bests)
        if accuracy is None:
            elsewhere += [name] if runs.finished else []
            continue
        mark = {
            "fmt": _MARKERS[groups.index(runs.group)] if runs.group else "o",
            "mfc": drawing.PAPER if number else colour,
            "label": None if runs.short in named else runs.short,
        }
        named.add(runs.short)
        seconds = fmean(times.values())
        reach = accuracy.half_width if intervals else [[accuracy.mean - min(bests)], [max(bests) - accuracy.mean]]
        axes.errorbar(seconds, accuracy.mean, reach, color=colour, ms=6.5, lw=1, **mark)
        numbers = {"best_accuracy": accuracy.mean, "half_width": accuracy.half_width, "n": accuracy.n}
        records.append({"row": name, "seconds": seconds, **numbers})
    if len(records) < 2:
        return None, elsewhere
    front: list[tuple[float, float]] = []
    for record in sorted(records, key=lambda record: (record["seconds"], -record["best_accuracy"])):
        record["on_front"] = not front or record["best_accuracy"] > front[-1][1]  # than all that took no longer
        front += [(record["seconds"], record["best_accuracy"])] if record["on_front"] else []
    axes.plot(*zip(*front, strict=True), color=drawing.INK, linewidth=1, alpha=0.5)
    alt = f"Accuracy against training time, {selection.title}"
    return drawing.picture(f"pareto-{selection.name}", alt, canvas, records), elsewhere


def _groups(selection: Selection) -> list[str]:
    """The schedules that its rows are grouped by; none where there is one schedule."""
    return list(dict.fromkeys(runs.group for runs in selection.rows if runs.group))


def _by_group(
    selection: Selection, stem: str, title: str, panels: Sequence[Panel], line: Callable[[RowRuns], Line]
) -> list[Picture]:
    """The panels of each group of rows that has a line of its own."""
    pictures = []
    for group in _groups(selection) or [""]:
        rows = [(runs.group, line(runs)) for runs in selection.rows if runs.group in ("", group)]
        if any(drawn.seeds for of, drawn in rows if of == group):
            of = f", {group}" if group else ""
            named = [panel._replace(heading=panel.heading + of) for panel in panels]
            name = f"{stem}-{group.replace(' ', '')}" if group else stem
            pictures += drawing.curves(name, title, named, [drawn for _, drawn in rows])
    return pictures
