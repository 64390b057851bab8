"""Accuracy against training time, a point a row, with the smaller network among them: who is on the front?"""

from __future__ import annotations

from collections import Counter
from statistics import fmean
from typing import Any

from approxtrain.report import drawing
from approxtrain.report.document import Picture
from approxtrain.report.estimates import estimate
from approxtrain.report.row_results import accuracies
from approxtrain.report.selection import Selection
from approxtrain.report.speed_up import timed_on, training_seconds

_MARKERS = ("o", "s", "^")
"""Of schedules 1 to 3."""


def figure(selection: Selection) -> tuple[Picture | None, list[str]]:
    """→ the rows that ran on the machine where most did, None if fewer than two; and those that only ran on others.

    A colour for each method, a marker for each schedule; of two rows of one method and schedule the second is hollow.
    """
    machines = Counter(timed_on(run) for runs in selection.rows for run in runs.finished.values())
    looks = drawing.looks([(runs.row.method, runs.row.group) for runs in selection.rows])
    canvas, axes = drawing.blank("best validation accuracy", "training time, s", percent=True)
    records: list[dict[str, Any]] = []
    elsewhere, named = [], set[str]()
    for runs, (colour, number) in zip(selection.rows, looks, strict=True):
        label, group = runs.row.short, runs.row.group
        name = f"{label}, {group}" if group else label
        here = {seed: run for seed, run in runs.finished.items() if timed_on(run) == machines.most_common(1)[0][0]}
        times = {seed: training_seconds(run, compiling=False) for seed, run in here.items()}
        known = {seed: taken for seed, taken in times.items() if taken is not None}
        accuracy = estimate([accuracies(runs, "best")[seed] for seed in known])
        if accuracy is None:
            elsewhere += [name] if runs.finished else []
            continue
        mark = {
            "fmt": _MARKERS[selection.experiment.groups.index(group)] if group else "o",
            "mfc": drawing.PAPER if number else colour,
            "label": None if label in named else label,
        }
        named.add(label)
        seconds = fmean(known.values())
        axes.errorbar(seconds, accuracy.mean, accuracy.half_width, color=colour, ms=6.5, lw=1, **mark)
        numbers = {"best_accuracy": accuracy.mean, "half_width": accuracy.half_width, "n": accuracy.n}
        records.append({"row": name, "seconds": seconds, **numbers})
    if len(records) < 2:
        return None, elsewhere
    front: list[tuple[float, float]] = []
    for record in sorted(records, key=lambda record: (record["seconds"], -record["best_accuracy"])):
        record["on_front"] = not front or record["best_accuracy"] > front[-1][1]  # than all that took no longer
        front += [(record["seconds"], record["best_accuracy"])] if record["on_front"] else []
    axes.plot(*zip(*front, strict=True), color=drawing.INK, linewidth=1, alpha=0.5)
    model = selection.experiment.model
    return drawing.picture(f"pareto-{model}", f"Accuracy against training time, {model}", canvas, records), elsewhere
