"""Accuracy against training time, a point a row, with the smaller network among them: who is on the front?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from approxtrain.report import drawing
from approxtrain.report.document import Picture
from approxtrain.report.estimates import Estimate, counted, estimate
from approxtrain.report.row_results import accuracies
from approxtrain.report.selection import Selection
from approxtrain.report.speed_up import timed_on, training_seconds

_MARKERS = ("o", "s", "^", "D")


class Point(NamedTuple):
    label: str
    group: str
    """The schedule, where the table has several."""
    look: tuple[str, int]
    seconds: float
    accuracy: Estimate

    def beats(self, other: Point) -> bool:
        """At least as good in both, and better in one."""
        this, that = ((point.seconds, -point.accuracy.mean) for point in (self, other))
        return this != that and this[0] <= that[0] and this[1] <= that[1]

    def mark(self, marker: str) -> dict[str, Any]:
        """The point as matplotlib draws it, hollow unless it is of the first row of its method."""
        colour, number = self.look
        face = drawing.PAPER if number else colour
        return {"color": colour, "marker": marker, "markerfacecolor": face, "markersize": 6.5, "linestyle": "none"}


def figure(selection: Selection) -> tuple[Picture | None, list[str]]:
    """→ the rows that ran on the machine where most did, None if fewer than two; and those that only ran on others."""
    machines = Counter(timed_on(archive) for runs in selection.rows for archive in runs.finished.values())
    looks = drawing.looks([(runs.row.method, runs.row.group) for runs in selection.rows])
    points, elsewhere = [], []
    for runs, look in zip(selection.rows, looks, strict=True):
        here = {seed: run for seed, run in runs.finished.items() if timed_on(run) == machines.most_common(1)[0][0]}
        times = {seed: training_seconds(run, compiling=False) for seed, run in here.items()}
        seconds = estimate([each for each in times.values() if each is not None])
        accuracy = estimate([accuracies(runs, "best")[seed] for seed, each in times.items() if each is not None])
        if seconds and accuracy:
            points.append(Point(runs.row.short, runs.row.group, look, seconds.mean, accuracy))
        elif runs.finished:
            elsewhere.append(f"{runs.row.short} {runs.row.group}".strip())
    return _picture(selection.experiment.model, points) if len(points) > 1 else None, elsewhere


def _picture(model: str, points: Sequence[Point]) -> Picture:
    from matplotlib.lines import Line2D

    blank, axes = drawing.blank("best validation accuracy", "training time, s", percent=True)
    front = [point for point in points if not any(other.beats(point) for other in points)]
    corners = sorted((point.seconds, point.accuracy.mean) for point in front)
    axes.plot(*zip(*corners, strict=True), color=drawing.INK, linewidth=1, alpha=0.5)
    shapes = dict(zip(dict.fromkeys(point.group for point in points if point.group), _MARKERS, strict=False))
    for point in points:
        if point.accuracy.half_width is not None:
            axes.vlines(point.seconds, point.accuracy.low, point.accuracy.high, color=point.look[0], alpha=0.4)
        axes.plot(point.seconds, point.accuracy.mean, **point.mark(shapes.get(point.group, "o")))
    axes.margins(0.12, 0.1)
    legend = {point.label: point.mark("o") for point in points}  # a colour each method, a shape each schedule
    legend |= {group: points[0]._replace(look=(drawing.UNKNOWN, 0)).mark(shape) for group, shape in shapes.items()}
    handles = [Line2D([], [], label=label, **mark) for label, mark in legend.items()]
    records = [
        {
            "row": point.label + point.group.replace("schedule ", ", s"),
            "seconds": point.seconds,
            "best_accuracy": point.accuracy.mean,
            "half_width": point.accuracy.half_width,
            "n": point.accuracy.n,
            "on_front": point in front,
        }
        for point in points
    ]
    alt = f"Accuracy against training time, {model}: {counted(len(points), 'point')}"
    return drawing.picture(f"pareto-{model}", alt, blank, handles, records)
